"""Quantities of single tracks, from run lengths: the consistency of its masks from frame to frame, and its boxes."""

from __future__ import annotations

import numba
import numpy as np

from harness import rle
from harness.arrays import Floats, Ints
from harness.rle import MaskTable

UNKNOWN = -1.0
"""Marks a quantity that a track does not have: outside every range."""


def consistency(masks: MaskTable) -> Floats:
    """Mean IoU ``(tracks,)`` of a track's masks in neighbouring frames, over the neighbours that both have a mask;
    `UNKNOWN` where there are none. Low for objects that move fast, or change their form, relative to their size.

    The motion IoU of ImageNet VID (Zhu et al., Flow-Guided Feature Aggregation, ICCV 2017) with masks in place of
    boxes and the next annotated frame in place of those within ten frames.
    """
    out = np.full(len(masks.track) - 1, UNKNOWN)
    _consistency(masks.arrays(), out)
    return out


def boxes(masks: MaskTable) -> Ints:
    """Boxes ``(frames, 4)`` of the masks of all tracks, in order of ``frame_mask``: left, top, right, bottom in pixels,
    the latter two exclusive; all 0 where there is no mask or an empty one."""
    out = np.zeros((len(masks.frame_mask), 4), np.int64)
    _boxes(masks.arrays(), out)
    return out


@numba.njit(cache=True, nogil=True)
def _consistency(masks, out):
    data, start, stop, kind, height, width, track, frame_mask = masks
    most = 0
    for m in frame_mask:
        if m >= 0:
            most = max(most, (stop[m] - start[m] + 1) // 2)
    begin, end = np.empty((2, most), np.int32), np.empty((2, most), np.int32)
    for t in range(len(out)):
        total, count = 0.0, 0
        before, runs_before, area_before, row = np.int64(-1), np.int64(0), np.int64(0), 0
        for f in range(track[t], track[t + 1]):
            m = np.int64(frame_mask[f])
            runs, area = np.int64(0), np.int64(0)
            if m >= 0 and m == before:
                runs, area = runs_before, area_before
                if area > 0:
                    total += 1
                    count += 1
            elif m >= 0:
                other, row = row, 1 - row
                runs = rle.runs_of(data, start[m], stop[m], kind[m], begin[row], end[row], np.int64(0))
                for k in range(runs):
                    area += end[row, k] - begin[row, k]
                fits = before >= 0 and height[m] == height[before] and width[m] == width[before]
                if fits and area > 0 and area_before > 0:
                    common = rle.intersection_of(begin[row], end[row], np.int64(0), runs,
                                                 begin[other], end[other], np.int64(0), runs_before)  # fmt: skip
                    total += common / (area + area_before - common)
                    count += 1
            before, runs_before, area_before = m, runs, area
        if count:
            out[t] = total / count


@numba.njit(cache=True, nogil=True)
def _boxes(masks, out):
    data, start, stop, kind, height, _, _, frame_mask = masks
    begin, end = np.empty(0, np.int32), np.empty(0, np.int32)
    for f in range(len(frame_mask)):
        m = frame_mask[f]
        if m < 0:
            continue
        room = (stop[m] - start[m] + 1) // 2
        if room > len(begin):
            begin, end = np.empty(2 * room, np.int32), np.empty(2 * room, np.int32)
        runs = rle.runs_of(data, start[m], stop[m], kind[m], begin, end, np.int64(0))
        if runs == 0:
            continue
        h = height[m]
        top, bottom = h, 0
        for k in range(runs):  # pixels run down the columns
            if begin[k] // h == (end[k] - 1) // h:
                top, bottom = min(top, begin[k] % h), max(bottom, (end[k] - 1) % h + 1)
            else:
                top, bottom = 0, h
        out[f] = (begin[0] // h, top, (end[runs - 1] - 1) // h + 1, bottom)
