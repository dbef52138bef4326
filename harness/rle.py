"""Run-length arithmetic on COCO masks in flat arrays: area, runs, intersection; exact integers, without pixels.

The kernels read masks in place: as COCO's compressed counts string, the same string inside JSON text (with escapes),
or a JSON list of counts. They release the GIL and are compiled once per machine (numba's cache).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numba
import numpy as np
from numpy.typing import NDArray

from harness.arrays import Ints
from harness.compiled import INNER
from harness.rle_lanes import CHARACTERS, LANES, MOST_LANE_PIXELS, areas_of_lanes

COMPRESSED, ESCAPED, LISTED = 0, 1, 2
"""The encoding of a mask's counts: a plain compressed string, one inside JSON text, a JSON list of integers."""

NOT_RLE, OVERRUN, UNDERRUN = -1, -2, -3
"""Faults that `areas` and the kernels return in place of a number."""

RLE_FAULTS = {
    NOT_RLE: "counts are not a COCO run-length encoding",
    OVERRUN: "counts run past the end of the mask",
    UNDERRUN: "counts end before the mask does",
}

_LONGEST = 1 << 13
"""Masks of more bytes are taken together in any order."""
_FEWEST = 3
"""So few masks are faster one by one."""


@dataclass(frozen=True, slots=True)
class MaskTable:
    """Masks of many tracks as flat arrays; nothing is decoded.

    ``data`` holds bytes; mask ``m`` has its counts in ``data[start[m]:stop[m]]``, encoded as ``kind[m]``, and the size
    ``height[m] x width[m]``. Track ``t`` has the frames ``frame_mask[track[t]:track[t + 1]]``: the index of a mask, or
    -1 where the object is absent. Tracks may share masks.
    """

    data: NDArray[np.uint8]
    start: Ints
    stop: Ints
    kind: NDArray[np.int8]
    height: NDArray[np.int32]
    width: NDArray[np.int32]
    track: Ints
    frame_mask: NDArray[np.int32]

    def arrays(self) -> tuple[Any, ...]:
        """The arrays in the order in which kernels take them."""
        return (
            read_only(self.data),
            self.start,
            self.stop,
            self.kind,
            self.height,
            self.width,
            self.track,
            self.frame_mask,
        )


def read_only(text: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """The same bytes; kernels are compiled for text that cannot be written, and for other text once more."""
    view = text.view()
    view.flags.writeable = False
    return view


@numba.njit(**INNER)
def _next_listed(data, position, stop):
    """Read one integer of a JSON list and the comma after it; return it and the next position (negative: fault)."""
    value = np.int64(0)
    digits = 0
    while position < stop and data[position] <= 32:
        position += 1
    while position < stop and 48 <= data[position] <= 57 and digits < 11:
        value = value * 10 + (data[position] - 48)
        digits += 1
        position += 1
    while position < stop and data[position] <= 32:
        position += 1
    if digits == 0 or digits > 10:
        return value, np.int64(NOT_RLE)
    if position < stop:
        if data[position] != 44:  # comma
            return value, np.int64(NOT_RLE)
        position += 1
    return value, np.int64(position)


@numba.njit(**INNER)
def _unescape(data, position, stop):
    """Read the character of a JSON escape after its backslash; return it (0: not COCO's) and the next position."""
    if position < stop and data[position] == 92:
        return np.int64(92), position + 1
    if position + 5 > stop or data[position] != 117:  # not \uXXXX
        return np.int64(0), position
    character = np.int64(0)
    for k in range(position + 1, position + 5):
        digit = np.int64(data[k]) | 32
        digit = digit - 87 if digit > 57 else digit - 48
        if digit < 0 or digit > 15:
            return np.int64(0), position
        character = character * 16 + digit
    return character, position + 5


@numba.njit(cache=True, nogil=True)
def decode_rles(data, start, stop, kind, pixels, begin, end, offset, keep):
    """Decode a mask's counts; return (area or a fault, next free position in ``begin`` and ``end``).

    COCO's string has six-bit characters with five bits of a number each; from the fourth count on, a number is the
    difference to the count two places back. If ``keep`` is set, runs of ones are written from ``offset`` on.
    """
    total = np.int64(0)
    area = np.int64(0)
    before = np.int64(0)
    last = np.int64(0)
    value = np.int64(0)
    shift = np.int64(0)
    ones = False
    index = 0
    position = start
    while position < stop:
        if kind == LISTED:
            value, position = _next_listed(data, position, stop)
            if position < 0:
                return np.int64(NOT_RLE), offset
        else:
            c = np.int64(data[position])
            position += 1
            if c == 92 and kind == ESCAPED:
                c, position = _unescape(data, position, stop)
            c -= 48
            if c < 0 or c > 63 or shift > 30:
                return np.int64(NOT_RLE), offset
            value |= (c & 31) << shift
            shift += 5
            if c >= 32:
                continue
            value -= (c & 16) << (shift - 4)  # the sign bit of the last character
            if index > 2:
                value += before
            if value < 0:
                return np.int64(NOT_RLE), offset
        if ones:
            area += value
            if keep and value > 0:
                begin[offset] = total
                end[offset] = total + value
                offset += 1
        total += value
        if total > pixels:
            return np.int64(OVERRUN), offset
        ones = not ones
        before = last
        last = value
        index += 1
        value = np.int64(0)
        shift = np.int64(0)
    if shift > 0:
        return np.int64(NOT_RLE), offset
    if total != pixels:
        return np.int64(UNDERRUN), offset
    return area, offset


@numba.njit(cache=True, nogil=True)
def runs_of(data, start, stop, kind, begin, end, offset):
    """Write the runs of ones of a valid mask to ``begin`` and ``end`` from ``offset`` on; return the next position.

    A mask of ``n`` bytes has at most ``(n + 1) // 2`` runs of ones.
    """
    written = np.int64(-1)
    if kind != LISTED:
        written = _runs(data, start, stop, kind, begin, end, offset)
    if written < 0:
        written = decode_rles(data, start, stop, kind, np.int64(1) << 62, begin, end, offset, True)[1]
    return written


@numba.njit(**INNER)
def _number(data, position, stop, kind):
    """Read one number, or difference of numbers, of a valid compressed mask; return it and the next position.

    The position is beyond ``stop`` where an escape other than a doubled backslash stands for a character. Positions are
    unsigned: numba checks an index with a sign for being negative.
    """
    one = np.uint64(1)
    c = np.int64(data[position]) - 48
    position += one
    if c < 32:  # most numbers
        return c - ((c & 16) << 1), position
    value, shift = np.int64(0), np.int64(0)
    while True:
        if c == 44 and kind == ESCAPED:  # a backslash, which stands for itself behind another one
            if position >= stop or data[position] != 92:
                return value, stop + one
            position += one
        value |= (c & 31) << shift
        shift += 5
        if c < 32 or position >= stop:
            break
        c = np.int64(data[position]) - 48
        position += one
    return value - ((c & 16) << (shift - 4)), position


@numba.njit(**INNER)
def _runs(data, start, stop, kind, begin, end, offset):
    """`runs_of` a compressed mask; -1 where an escape other than a doubled backslash stands for a character."""
    position, last, place = np.uint64(start), np.uint64(stop), np.uint64(offset)
    total, zeros, ones = np.int64(0), np.int64(0), np.int64(0)
    is_first = True
    while position < last:
        value, position = _number(data, position, last, kind)
        zeros += value
        total += zeros
        if is_first:  # the third number is no difference to it
            zeros = np.int64(0)
            is_first = False
        if position >= last:
            break
        value, position = _number(data, position, last, kind)
        ones += value
        begin[place] = total
        total += ones
        end[place] = total
        place += np.uint64(ones > 0)
    return np.int64(-1) if position > last else np.int64(place)


@numba.njit(cache=True, nogil=True)
def intersection_of(begin_a, end_a, a, stop_a, begin_b, end_b, b, stop_b):
    """Pixels common to runs ``a..stop_a`` of one array pair and ``b..stop_b`` of another."""
    total = np.int64(0)
    while a < stop_a:
        low, high = begin_a[a], end_a[a]
        while b < stop_b and end_b[b] <= low:
            b += 1
        if b >= stop_b:
            break
        if begin_b[b] < high:
            total += min(high, end_b[b]) - max(low, begin_b[b])
            while b + 1 < stop_b and end_b[b] < high and begin_b[b + 1] < high:
                b += 1
                total += min(high, end_b[b]) - begin_b[b]
        a += 1
    return total


@numba.njit(**INNER)
def _area(data, start, stop, kind, pixels):
    """The area of a sound compressed mask, as `decode_rles` gives it; -1 where `decode_rles` has to look."""
    total, ones = np.int64(0), np.int64(0)
    before, last = np.int64(0), np.int64(0)
    index = 0
    position = start
    while position < stop:
        value = np.int64(0)
        shift = np.int64(0)
        while True:
            if position >= stop or shift > 30:
                return np.int64(-1)
            c = np.int64(data[position]) - 48
            position += 1
            if c == 44 and kind == ESCAPED:  # a backslash, which stands for itself behind another one
                if position >= stop or data[position] != 92:
                    return np.int64(-1)
                position += 1
            if c < 0 or c > 63:
                return np.int64(-1)
            value |= (c & 31) << shift
            shift += 5
            if c < 32:
                break
        value -= (c & 16) << (shift - 4)
        if index > 2:
            value += before
        if value < 0:
            return np.int64(-1)
        total += value
        ones += value * (index & 1)
        before = last
        last = value
        index += 1
    return ones if total == pixels else np.int64(-1)


@numba.njit(**INNER)
def _by_length(start, stop, kind, height, width, wanted, end):
    """The ``wanted`` masks that fit `areas_of_lanes` in ``end`` bytes of text, the shortest first.

    The longest of them are in no order: they have a length of `_LONGEST` in common.
    """
    places = np.zeros(_LONGEST + 2, np.int64)
    length = np.full(len(start), -1, np.int64)
    for m in range(len(start)):
        pixels = np.int64(height[m]) * np.int64(width[m])
        size = stop[m] - start[m]
        fits = 0 <= pixels < MOST_LANE_PIXELS and 0 <= size < MOST_LANE_PIXELS and stop[m] + CHARACTERS <= end
        if wanted[m] and kind[m] != LISTED and fits:
            length[m] = min(size, _LONGEST)
            places[length[m] + 1] += 1
    for k in range(_LONGEST + 1):
        places[k + 1] += places[k]
    order = np.empty(places[-1], np.int64)
    for m in range(len(start)):
        if length[m] >= 0:
            order[places[length[m]]] = m
            places[length[m]] += 1
    return order


@numba.njit(cache=True, nogil=True)
def areas(data, start, stop, kind, height, width, wanted):
    """Areas in pixels of the ``wanted`` masks ``(masks,)``; a fault code for invalid masks; 0 for the others."""
    out = np.zeros(len(start), np.int64)
    known = np.zeros(len(start), np.bool_)
    order = _by_length(start, stop, kind, height, width, wanted, len(data))
    begin, found = np.zeros(LANES, np.int64), np.zeros(LANES, np.int32)
    size, pixels, is_escaped = np.zeros(LANES, np.int32), np.zeros(LANES, np.int32), np.zeros(LANES, np.int32)
    for first in range(0, len(order) - _FEWEST, LANES):
        last = min(first + LANES, len(order))
        longest = np.int64(0)
        for lane in range(LANES):
            size[lane] = 0  # of lanes without a mask
        for lane in range(last - first):
            m = order[first + lane]
            begin[lane], size[lane], is_escaped[lane] = start[m], stop[m] - start[m], kind[m] == ESCAPED
            pixels[lane] = np.int64(height[m]) * np.int64(width[m])
            longest = max(longest, stop[m] - start[m])
        areas_of_lanes(data, begin, size, pixels, is_escaped, longest, found)
        for lane in range(last - first):
            out[order[first + lane]] = found[lane]
            known[order[first + lane]] = found[lane] >= 0
    nothing = np.empty(0, np.int32)
    for m in range(len(start)):
        if wanted[m] and not known[m]:
            whole = np.int64(height[m]) * np.int64(width[m])
            out[m] = -1 if kind[m] == LISTED else _area(data, start[m], stop[m], kind[m], whole)
            if out[m] < 0:
                out[m] = decode_rles(data, start[m], stop[m], kind[m], whole, nothing, nothing, 0, False)[0]
    return out
