"""Masks of one sequence in BURST's form: areas, boxes, and overlaps with the annotated masks of the same images.

Every mask is decoded once, for all tasks and classes; pairs whose boxes do not overlap are left out.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numba
import numpy as np
from numpy.typing import NDArray

from harness import rle
from harness.arrays import Floats, Ints, Ints32


class MaskTexts(NamedTuple):
    """Compressed masks: the text of mask ``m`` is ``data[start[m]:stop[m]]``."""

    data: NDArray[np.uint8]
    start: Ints
    stop: Ints


@dataclass(frozen=True)
class MeasuredMasks:
    """Masks of a sequence, in pixels: ``area (masks,)``, ``box (masks, 4)`` as x, y, width and height, and a
    ``digest (masks,)`` that is the same for equal masks.

    ``area`` is a fault code of `rle` for a mask that is not a run-length encoding. Mask ``m`` and the annotated masks
    ``truth[first[m]:first[m + 1]]`` have overlapping boxes, of IoU ``box_iou``, and share ``shared`` pixels.
    """

    area: Ints32
    box: Ints
    digest: Ints
    first: Ints
    truth: Ints32
    shared: Ints32
    box_iou: Floats

    def without_boxes(self) -> MeasuredMasks:
        """The same without boxes and digests, which are used by sequence only."""
        return replace(self, box=self.box[:0].copy(), digest=self.digest[:0].copy())


class TruthMasks(NamedTuple):
    """Annotated masks: their texts, and ``area`` and ``box`` as in `MeasuredMasks`."""

    texts: MaskTexts
    area: Ints32
    box: Ints


class SharedTruths(NamedTuple):
    """The annotated masks of several truths, each once: mask ``m`` of truth ``t`` is ``masks`` number
    ``number[t][m]``. Different masks of a truth have different numbers."""

    masks: TruthMasks
    number: list[Ints]


class PlacedMasks(NamedTuple):
    """The annotated masks of a truth, and the image of each: a number that all truths share, -1 for other images."""

    masks: TruthMasks
    image: Ints


def share_masks(first: PlacedMasks, others: list[PlacedMasks], images: int) -> SharedTruths:
    """The masks of several truths; of the ``others`` those that the ``first`` has in the same image are not repeated.

    All masks of the ``first`` have one of the ``images``.
    """
    order = np.argsort(first.image, kind="stable")
    begin = np.searchsorted(first.image[order], np.arange(images + 1))
    parts, numbers, total = [first.masks], [np.arange(len(first.image))], len(first.image)
    for one in others:
        number = np.full(len(one.image), -1, np.int64)
        _find_equal(
            order, begin, *first.masks.texts, first.masks.box, one.image, *one.masks.texts, one.masks.box, number
        )
        own = np.flatnonzero(number < 0)
        number[own] = total + np.arange(len(own))
        total += len(own)
        numbers.append(number)
        if len(own):
            texts = one.masks.texts
            texts = texts._replace(start=texts.start[own], stop=texts.stop[own])
            parts.append(TruthMasks(texts, one.masks.area[own], one.masks.box[own]))
    return SharedTruths(join_truths(parts), numbers)


@numba.njit(cache=True, nogil=True)
def _find_equal(order, begin, data_a, start_a, stop_a, box_a, image, data_b, start_b, stop_b, box_b, number):
    """Write to ``number`` which mask of the same image, text and box is that of ``b`` in ``a``, each at most once."""
    used = np.zeros(len(start_a), np.bool_)
    for m in range(len(image)):
        if image[m] < 0:
            continue
        for k in range(begin[image[m]], begin[image[m] + 1]):
            t = order[k]
            size = stop_a[t] - start_a[t]
            is_equal = not used[t] and size == stop_b[m] - start_b[m] and (box_a[t] == box_b[m]).all()
            if is_equal and (data_a[start_a[t] : stop_a[t]] == data_b[start_b[m] : stop_b[m]]).all():
                number[m] = t
                used[t] = True
                break


def join_truths(parts: list[TruthMasks]) -> TruthMasks:
    """The annotated masks of several sequences or files, in order."""
    if len(parts) == 1:
        return parts[0]
    bytes_before = np.cumsum([0] + [len(part.texts.data) for part in parts])
    none = np.empty(0, np.int64)
    texts = MaskTexts(
        np.concatenate([np.empty(0, np.uint8), *(part.texts.data for part in parts)]),
        np.concatenate([none, *(p.texts.start + before for p, before in zip(parts, bytes_before, strict=False))]),
        np.concatenate([none, *(p.texts.stop + before for p, before in zip(parts, bytes_before, strict=False))]),
    )
    area = np.concatenate([np.empty(0, np.int32), *(part.area for part in parts)])
    return TruthMasks(texts, area, np.concatenate([none.reshape(0, 4), *(part.box for part in parts)]))


def texts_of(masks: list[str]) -> MaskTexts:
    """Masks as one array of bytes. A character outside ASCII becomes one that no mask has."""
    stop = np.cumsum(np.fromiter(map(len, masks), np.int64, len(masks)))
    text = "".join(masks)
    if not text.isascii():
        text = re.sub(r"[^\x00-\x7f]", "!", text)
    data = np.frombuffer(text.encode(), np.uint8)
    return MaskTexts(data, np.append(np.zeros(1, np.int64), stop)[:-1], stop)


def no_texts() -> MaskTexts:
    """The texts of no masks."""
    none = np.empty(0, np.int64)
    return MaskTexts(np.empty(0, np.uint8), none, none)


def empty_truth(masks: int) -> tuple[TruthMasks, Ints, Ints, Ints]:
    """Arguments of `measure_masks` for masks of one image without annotated masks."""
    none = np.empty(0, np.int64)
    truth = TruthMasks(no_texts(), np.empty(0, np.int32), np.empty((0, 4), np.int64))
    return truth, np.array([0, masks], np.int64), np.zeros(2, np.int64), none


def measure_masks(
    texts: MaskTexts, pixels: int, height: int, truth: TruthMasks, image: Ints, truth_first: Ints, truth_rows: Ints
) -> MeasuredMasks:
    """Measure masks of ``pixels`` each, in images of this ``height``.

    Those of image ``i`` are ``image[i]:image[i + 1]``, and the annotated ones there
    ``truth_rows[truth_first[i]:truth_first[i + 1]]`` of ``truth``.
    """
    n = len(texts.start)
    area, digest, box = np.zeros(n, np.int32), np.zeros(n, np.int64), np.zeros((n, 4), np.int64)
    room = int((np.diff(image) * np.diff(truth_first)).sum())
    first, rows = np.zeros(n + 1, np.int64), np.empty(room, np.int32)
    shared, box_iou = np.empty(room, np.int32), np.empty(room)
    _measure(*texts, pixels, height, *truth.texts, truth.area, truth.box, image, truth_first, truth_rows,
             area, box, digest, first, rows, shared, box_iou)  # fmt: skip
    used = int(first[-1])
    return MeasuredMasks(area, box, digest, first, rows[:used].copy(), shared[:used].copy(), box_iou[:used].copy())


def join_masks(parts: list[MeasuredMasks]) -> MeasuredMasks:
    """The masks of several sequences, in order, without boxes and digests."""
    joined: dict[str, Any] = {
        name: np.concatenate([np.empty(0, kind), *(getattr(p, name) for p in parts)])
        for name, kind in (("area", np.int32), ("truth", np.int32), ("shared", np.int32), ("box_iou", np.float64))
    }
    counts = np.concatenate([np.zeros(1, np.int64), *(np.diff(p.first) for p in parts)])
    none = np.empty(0, np.int64)
    return MeasuredMasks(box=none.reshape(0, 4), digest=none, first=np.cumsum(counts), **joined)


@numba.njit(cache=True, nogil=True)
def _counts(data, start, stop, pixels, counts):
    """Write the counts of a compressed mask; return (their number, area, digest), or a number of -1 for a fault."""
    n, total, ones, position = np.int64(0), np.int64(0), np.int64(0), start
    digest = np.int64(1)
    while position < stop:
        value, shift = np.int64(0), np.int64(0)
        while True:
            if position >= stop or shift > 30:
                return np.int64(-1), ones, digest
            c = np.int64(data[position]) - 48
            position += 1
            if c < 0 or c > 63:
                return np.int64(-1), ones, digest
            value |= (c & 31) << shift
            shift += 5
            if c < 32:
                break
        value -= (c & 16) << (shift - 4)  # the sign bit of the last character
        if n > 2:
            value += counts[n - 2]
        if value < 0:
            return np.int64(-1), ones, digest
        total += value
        if total > pixels:
            return np.int64(-1), ones, digest
        ones += value * (n & 1)
        digest = (digest + value) * np.int64(0x5851F42D4C957F2D)
        counts[n] = value
        n += 1
    return (n if total == pixels else np.int64(-1)), ones, digest


@numba.njit(cache=True, nogil=True)
def _write_box(counts, n, height, width, box):
    """The box of a mask, as pycocotools gives it: huge for a mask without a pixel that lists runs of no length."""
    left, top, right, bottom = width, height, np.int64(0), np.int64(0)
    x, y = counts[0] // height, counts[0] % height  # where a run begins
    for k in range(1, n, 2):
        if counts[k] > 0:
            left, top = min(left, x), min(top, y)
            y += counts[k]
            if y <= height:
                right, bottom = x, max(bottom, y - 1)
            else:
                right, top, bottom = x + (y - 1) // height, np.int64(0), height - 1
        if k + 1 < n:
            y += counts[k + 1]
            if y >= 2 * height:
                x += y // height
                y %= height
            elif y >= height:
                x += 1
                y -= height
    if n < 2:
        box[:] = 0
        return
    bits = np.int64(0xFFFFFFFF)
    box[0], box[1] = left, top
    box[2], box[3] = (right - left + 1) & bits, (bottom - top + 1) & bits


@numba.njit(cache=True, nogil=True)
def _runs(counts, n, begin, end, offset):
    """Write the runs of ones with a pixel; return the next position."""
    at = np.int64(0)
    for k in range(1, n, 2):
        at += counts[k - 1]
        if counts[k] > 0:
            begin[offset] = at
            end[offset] = at + counts[k]
            offset += 1
        at += counts[k]
    return offset


@numba.njit(cache=True, nogil=True)
def _first_run_behind(end, low, high, pixel):
    """The first run of ``low`` to ``high`` that ends behind a pixel, found by halves."""
    while low < high:
        middle = (low + high) // 2
        if end[middle] <= pixel:
            low = middle + 1
        else:
            high = middle
    return low


@numba.njit(cache=True, nogil=True)
def _shared_pixels(begin_a, end_a, a, stop_a, begin_b, end_b, b, stop_b):
    """Pixels common to two masks; runs that are before the other mask begins are skipped."""
    if a == stop_a or b == stop_b:
        return np.int64(0)
    a = _first_run_behind(end_a, a, stop_a, begin_b[b])
    if a == stop_a:
        return np.int64(0)
    b = _first_run_behind(end_b, b, stop_b, begin_a[a])
    return rle.intersection_of(begin_a, end_a, a, stop_a, begin_b, end_b, b, stop_b)


@numba.njit(cache=True, nogil=True)
def _measure(data, start, stop, pixels, height, data_g, start_g, stop_g, area_g, box_g, image, truth_first, truth_rows,
             area, box, digest, first, rows, shared, box_iou):  # fmt: skip
    width = pixels // height
    longest = np.int64(1)
    for m in range(len(start)):
        longest = max(longest, stop[m] - start[m])
    for t in truth_rows:
        longest = max(longest, stop_g[t] - start_g[t])
    counts = np.empty(longest, np.int64)
    begin, end = np.empty(longest // 2 + 1, np.int64), np.empty(longest // 2 + 1, np.int64)
    begin_g, end_g = np.empty(1024, np.int64), np.empty(1024, np.int64)
    n_pairs = np.int64(0)
    for i in range(len(image) - 1):
        mine = truth_rows[truth_first[i] : truth_first[i + 1]]
        run_g = np.zeros(len(mine) + 1, np.int64)
        if image[i + 1] > image[i]:
            room = np.int64(0)
            for t in mine:
                room += (stop_g[t] - start_g[t]) // 2 + 1
            if room > len(begin_g):
                begin_g, end_g = np.empty(2 * room, np.int64), np.empty(2 * room, np.int64)
            for j in range(len(mine)):
                t = mine[j]
                n = _counts(data_g, start_g[t], stop_g[t], pixels, counts)[0]
                run_g[j + 1] = _runs(counts, n, begin_g, end_g, run_g[j])
        for m in range(image[i], image[i + 1]):
            n, area[m], digest[m] = _counts(data, start[m], stop[m], pixels, counts)
            if n < 0:
                nothing = np.empty(0, np.int32)
                area[m] = rle.decode_rles(data, start[m], stop[m], np.int8(0), pixels, nothing, nothing, 0, False)[0]
                first[m + 1] = n_pairs
                continue
            _write_box(counts, n, height, width, box[m])
            stop_runs = np.int64(-1)
            for j in range(len(mine)):
                t = mine[j]
                wide = min(box[m, 0] + box[m, 2], box_g[t, 0] + box_g[t, 2]) - max(box[m, 0], box_g[t, 0])
                high = min(box[m, 1] + box[m, 3], box_g[t, 1] + box_g[t, 3]) - max(box[m, 1], box_g[t, 1])
                if wide <= 0 or high <= 0:
                    continue
                common = np.float64(wide) * np.float64(high)
                union = np.float64(box[m, 2]) * np.float64(box[m, 3])
                union = union + np.float64(box_g[t, 2]) * np.float64(box_g[t, 3]) - common
                if stop_runs < 0:
                    stop_runs = _runs(counts, n, begin, end, np.int64(0))
                rows[n_pairs] = t
                box_iou[n_pairs] = common / union
                shared[n_pairs] = _shared_pixels(
                    begin, end, np.int64(0), stop_runs, begin_g, end_g, run_g[j], run_g[j + 1]
                )
                n_pairs += 1
            first[m + 1] = n_pairs
