"""Scanning of large JSON text without parsing it: the positions of records and of their masks.

A results file holds hundreds of megabytes of masks and a few megabytes of everything else. `scan_records` finds the
records of an array and, in each, the value of its ``segmentations``; what is left is small and goes through msgspec.
`scan_masks` finds the masks inside those values. For text that these kernels cannot parse, they return its position.
"""

from __future__ import annotations

import numba
import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from harness.compiled import INNER

ABSENT, OTHER = -1, 3
"""Entries without a mask, and entries that are no run-length encoding (polygons, or a fault); see `rle` for 0 to 2."""

LARGEST = (1 << 63) - 1
"""Ids from minus this to this fit the arrays; one further value means that there is none."""

MORE, MALFORMED, FULL, DONE = -1, -2, -3, 0
"""How a scan ended: more text needed, text that is not JSON records, output arrays too small, end of the array."""


@numba.njit(**INNER)
def _skip_space(text, i, stop):
    while i < stop and 0 < text[i] <= 32:  # NUL bytes are no space: a damaged file has millions of them
        i += 1
    return i


_WIDTH, _SAMPLES = 32, 16
_COUNTS, _SIZE = np.frombuffer(b'counts"', np.uint8), np.frombuffer(b'size"', np.uint8)


@intrinsic
def _specials(typing_context, text, place):
    """Which of the 32 characters from ``place`` on are quotes or backslashes; bit ``k`` is that at ``place + k``."""

    def generate(context, builder, signature, values):
        array = context.make_array(signature.args[0])(context, builder, values[0])
        kind = ir.VectorType(ir.IntType(8), _WIDTH)
        pointer = builder.bitcast(builder.gep(array.data, [values[1]]), kind.as_pointer())
        characters = builder.load(pointer, align=1)
        found = [builder.icmp_unsigned("==", characters, ir.Constant(kind, [ord(c)] * _WIDTH)) for c in '"\\']
        return builder.zext(builder.bitcast(builder.or_(*found), ir.IntType(_WIDTH)), ir.IntType(64))

    return types.uint64(text, types.int64), generate


@intrinsic
def _lowest(typing_context, bits):
    """The place of the lowest bit that is set."""

    def generate(context, builder, signature, values):
        return builder.cttz(values[0], ir.Constant(ir.IntType(1), 0))

    return types.int64(types.uint64), generate


@numba.njit(cache=True, nogil=True)
def _skip_string(text, i, stop):
    """``i`` is the position after an opening quote; return that after the closing one, ``stop + 1`` if cut off."""
    while i < stop:
        if i + _WIDTH <= len(text):  # most of a file is mask strings
            bits = _specials(text, i)
            if not bits:
                i += _WIDTH
                continue
            i += _lowest(bits)
            if i >= stop:
                break
        c = text[i]
        i += 1
        if c == 34:
            return i
        if c == 92:
            i += 1
    return stop + 1


@numba.njit(**INNER)
def _skip_value(text, i, stop):
    """Return the position after the JSON value at ``i``, or ``stop + 1`` if cut off (brackets are only counted)."""
    depth = 0
    while i < stop:
        c = text[i]
        if c == 34:
            i = _skip_string(text, i + 1, stop)
            if i > stop:
                return i
            if depth == 0:
                return i
        elif c == 91 or c == 123:
            depth += 1
            i += 1
        elif c == 93 or c == 125:
            if depth == 0:
                return i
            depth -= 1
            i += 1
            if depth == 0:
                return i
        elif depth == 0 and (c == 44 or c <= 32):
            return i
        else:
            i += 1
    return stop + 1


@numba.njit(**INNER)
def _is_key(text, i, key):
    """Whether the string after the quote at ``i`` is ``key`` (which ends in its closing quote)."""
    if i + len(key) > len(text):
        return False
    for k in range(len(key)):  # noqa: SIM110 (numba)
        if text[i + k] != key[k]:
            return False
    return True


@numba.njit(cache=True, nogil=True)
def scan_records(text, begin, stop, key, fresh, spans):
    """Find the objects of an array in ``text[begin:stop]``, which starts inside it (``fresh``: before the first).

    Fills ``spans (n, 4)`` with start and stop of each object and of the value of ``key`` in it (0, 0 without it; the
    last one if repeated, as JSON readers do). Returns (objects found, position after the last, `MORE` / `MALFORMED` /
    `FULL` / `DONE`).
    """
    n = 0
    i = begin
    while True:
        i = _skip_space(text, i, stop)
        first = fresh and n == 0
        if i < stop and text[i] == 93:
            return n, i + 1, DONE
        if i < stop and not first:
            if text[i] != 44:
                return n, i, MALFORMED
            i = _skip_space(text, i + 1, stop)
        if i >= stop:
            return n, begin, MORE
        if text[i] != 123:
            return n, i, MALFORMED
        if n == len(spans):
            return n, begin, FULL
        start = i
        i = _skip_space(text, i + 1, stop)
        spans[n, 2] = 0
        spans[n, 3] = 0
        while True:
            if i >= stop:
                return n, begin, MORE
            if text[i] == 125:
                i += 1
                break
            if text[i] != 34:
                return n, i, MALFORMED
            wanted = _is_key(text, i + 1, key)
            i = _skip_string(text, i + 1, stop)
            i = _skip_space(text, i, stop)
            if i >= stop:
                return n, begin, MORE
            if text[i] != 58:
                return n, i, MALFORMED
            i = _skip_space(text, i + 1, stop)
            value = i
            i = _skip_value(text, i, stop)
            if i > stop:
                return n, begin, MORE
            if i == value:
                return n, i, MALFORMED
            if wanted:
                spans[n, 2] = value
                spans[n, 3] = i
            i = _skip_space(text, i, stop)
            if i < stop and text[i] == 44:
                i = _skip_space(text, i + 1, stop)
            elif i < stop and text[i] != 125:
                return n, i, MALFORMED
        spans[n, 0] = start
        spans[n, 1] = i
        n += 1
        begin = i


@numba.njit(**INNER)
def _read_size(text, i, stop):
    """Read ``[height, width]`` at ``i``; (-1, -1) if it is not that."""
    height, place = _read_side(text, i + 1, stop, 44) if i < stop and text[i] == 91 else (np.int64(-1), i)
    width, place = _read_side(text, place, stop, 93) if height >= 0 else (np.int64(-1), place)
    return (height, width) if width >= 0 else (np.int64(-1), np.int64(-1))


@numba.njit(**INNER)
def _read_side(text, i, stop, end):
    """Read a whole number and the character ``end``; return it and the place behind it, or -1 if it is not that."""
    i = _skip_space(text, i, stop)
    value = np.int64(0)
    digits = 0
    while i < stop and 48 <= text[i] <= 57 and digits < 9:
        value = value * 10 + (text[i] - 48)
        digits += 1
        i += 1
    i = _skip_space(text, i, stop)
    return (np.int64(-1) if digits == 0 or i >= stop or text[i] != end else value), i + 1


@numba.njit(**INNER)
def _is_empty(text, i, stop):
    """Whether the value at ``i`` is an empty text or an empty object."""
    if text[i] == 34:
        return i + 1 < stop and text[i + 1] == 34
    if text[i] == 123:
        i = _skip_space(text, i + 1, stop)
        return i < stop and text[i] == 125
    return False


@numba.njit(**INNER)
def _is_nothing(text, start, stop):
    """Whether a value is 0, 0.0, an empty text or false: to the official tools, which are in Python, no mask."""
    size, first = stop - start, text[start]
    if first == 48:
        return size == 1 or (size == 3 and text[start + 1] == 46 and text[start + 2] == 48)
    return (first == 34 and size == 2) or (first == 102 and size == 5)


@numba.njit(cache=True, nogil=True)
def scan_masks(text, start, stop, track, mask_start, mask_stop, kind, height, width):
    """Find the masks of many tracks; the value of track ``t``'s ``segmentations`` is ``text[start[t]:stop[t]]``.

    An empty object or text is a list without frames. Entries that are false in Python are `ABSENT`.
    Fills ``track (tracks + 1,)`` with offsets of its frames and, per frame, ``kind`` (`ABSENT`, `rle.ESCAPED`,
    `rle.LISTED`, `OTHER`), the span of the counts (of the whole entry for `OTHER`) and the size. Returns (`DONE`, 0),
    (`FULL`, 0) or (`MALFORMED`, the track whose value is no list).
    """
    n = 0
    for t in range(len(start)):
        track[t] = n
        i = _skip_space(text, start[t], stop[t])
        end = stop[t]
        if i < end and _is_empty(text, i, end):
            continue
        if i >= end or text[i] != 91:
            return MALFORMED, t
        i = _skip_space(text, i + 1, end)
        while i < end and text[i] != 93:
            if n == len(kind):
                return FULL, 0
            begin = i
            kind[n] = OTHER
            mask_start[n] = begin
            if text[i] == 110:  # null
                kind[n] = ABSENT
                i = _skip_value(text, i, end)
            elif text[i] == 123:
                i = _skip_space(text, i + 1, end)
                if i < end and text[i] == 125:
                    kind[n] = ABSENT
                    i += 1
                else:
                    h = np.int64(-1)
                    w = np.int64(-1)
                    form = OTHER
                    while i < end and text[i] == 34:
                        name = i + 1
                        i = _skip_space(text, _skip_string(text, name, end), end)
                        if i >= end or text[i] != 58:
                            return MALFORMED, t
                        i = _skip_space(text, i + 1, end)
                        value = i
                        i = _skip_value(text, i, end)
                        if i > end or i == value:
                            return MALFORMED, t
                        if i - value >= 2 and _is_key(text, name, _COUNTS):
                            if text[value] == 34:
                                form = 1
                            elif text[value] == 91:
                                form = 2
                            mask_start[n] = value + 1
                            mask_stop[n] = i - 1
                        elif _is_key(text, name, _SIZE):
                            h, w = _read_size(text, value, end)
                        i = _skip_space(text, i, end)
                        if i < end and text[i] == 44:
                            i = _skip_space(text, i + 1, end)
                    if i >= end or text[i] != 125:
                        return MALFORMED, t
                    i += 1
                    if form != OTHER and h >= 0:
                        kind[n] = form
                        height[n] = h
                        width[n] = w
            elif text[i] == 91:
                i = _skip_value(text, i, end)
                inside = _skip_space(text, begin + 1, i)
                if inside < i and text[inside] == 93:
                    kind[n] = ABSENT
            else:
                i = _skip_value(text, i, end)
                if _is_nothing(text, begin, i):
                    kind[n] = ABSENT
            if i > end or i == begin:
                return MALFORMED, t
            if kind[n] == OTHER:
                mask_start[n] = begin
                mask_stop[n] = i
            n += 1
            i = _skip_space(text, i, end)
            if i < end and text[i] == 44:
                i = _skip_space(text, i + 1, end)
            elif i < end and text[i] != 93:
                return MALFORMED, t
        if i >= end:
            return MALFORMED, t
    track[len(start)] = n
    return DONE, 0


@numba.njit(cache=True, nogil=True)
def without_masks(text, spans, out):
    """Write the records ``spans (n, 4)`` of `scan_records` to ``out`` as a JSON list, their masks replaced by 0.

    Returns the number of bytes: those of the records, and at most two for each of them and two more.
    """
    out[0] = 91
    n = 1
    for record in range(len(spans)):
        if record:
            out[n] = 44
            n += 1
        start, stop = spans[record, 0], spans[record, 1]
        if spans[record, 3]:
            n = _copy(text, start, spans[record, 2], out, n)
            out[n] = 48
            n += 1
            start = spans[record, 3]
        n = _copy(text, start, stop, out, n)
    out[n] = 93
    return n + 1


@numba.njit(**INNER)
def _copy(text, start, stop, out, n):
    """Write ``text[start:stop]`` from ``out[n]`` on; return where it ends. Slices take a second more to compile."""
    for i in range(start, stop):
        out[n] = text[i]
        n += 1
    return n


@numba.njit(**INNER)
def _is_same(text, a, b, size):
    """Whether two parts of a text of this size are equal."""
    i, other, rest = np.uint64(a), np.uint64(b), np.uint64(size)
    width, one = np.uint64(_WIDTH), np.uint64(1)
    while rest >= width:  # no branch inside: LLVM compares them together
        difference = np.uint8(0)
        for k in range(width):
            difference |= text[i + np.uint64(k)] ^ text[other + np.uint64(k)]
        if difference:
            return False
        i, other, rest = i + width, other + width, rest - width
    while rest:
        if text[i] != text[other]:
            return False
        i, other, rest = i + one, other + one, rest - one
    return True


@numba.njit(cache=True, nogil=True)
def share_texts(text, start, stop, group, shared, distinct):
    """Find parts ``text[start[i]:stop[i]]`` that are equal within their ``group (n,)``; return how many are distinct.

    Fills ``distinct`` with the first of each in order, and ``shared (n,)`` with the place of each one's equal there.
    """
    room = 1
    while room < 2 * len(start):
        room *= 2
    table = np.full(room, -1, np.int64)
    found = 0
    for i in range(len(start)):
        size = stop[i] - start[i]
        key = np.uint64(size) * np.uint64(0x9E3779B97F4A7C15) + np.uint64(group[i])
        for k in range(_SAMPLES):
            key = (key ^ np.uint64(text[start[i] + size * k // _SAMPLES] if size else 0)) * np.uint64(0x100000001B3)
        place = np.int64((key ^ (key >> np.uint64(32))) & np.uint64(room - 1))
        while True:
            j = table[place]
            if j < 0:
                table[place], distinct[found], shared[i] = found, i, found
                found += 1
                break
            first = distinct[j]
            is_alike = group[first] == group[i] and stop[first] - start[first] == size
            if is_alike and _is_same(text, start[first], start[i], size):
                shared[i] = j
                break
            place = (place + 1) & (room - 1)
    return found
