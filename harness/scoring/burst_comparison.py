"""The input of BURST's metrics: per class and video, similarities per frame and overlaps of whole tracks."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping
from typing import NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray
from pycocotools import mask as coco
from scipy.optimize import linear_sum_assignment

from harness.scoring.burst_tracks import BurstVideo, Images, Item, Truth
from harness.scoring.hota import EPSILON, Floats, Step
from harness.scoring.track_map import Tracks, VideoPairs

T = TypeVar("T")

BurstTrack = dict[str, Item]
"""A track's masks by image."""


class ClassVideo(NamedTuple):
    """One class in one video: masks by image, and whole tracks by id.

    The two differ for predictions: a track belongs to the class of its first mask, with all its masks.
    """

    video: BurstVideo
    truths: Images
    predictions: Images
    found: dict[int, BurstTrack]


def by_class(truth: Truth, placed: dict[str, Images], file_order: bool) -> dict[int, list[ClassVideo]]:
    """Videos by ascending name for each class that has any mask there.

    A predicted track has the class of its first mask. Frames, and with them tracks and their first masks, are ordered
    by number, or with ``file_order`` as each file lists its frames. Masks without a class take no part.
    """
    out: dict[int, list[ClassVideo]] = defaultdict(list)
    for name, video in sorted(truth.videos.items()):
        wanted, given = video.truths, placed[name]
        if not file_order:
            wanted, given = _by_number(wanted, video.frames), _by_number(given, video.frames)
        truths, predictions = _split(wanted), _split(given)
        found: dict[int, dict[int, BurstTrack]] = defaultdict(dict)
        for number, track in _tracks(given).items():
            category = next(iter(track.values())).category
            if category is not None:
                found[category][number] = _by_number(track, video.frames)  # in this order scores are averaged
        for number in sorted(truths.keys() | predictions.keys()):
            part = ClassVideo(video, truths.get(number, {}), predictions.get(number, {}), found.get(number, {}))
            out[number].append(part)
    return out


def _split(images: Images) -> dict[int, Images]:
    out: dict[int, Images] = defaultdict(dict)
    for image, items in images.items():
        for item in items:
            if item.category is not None:
                out[item.category].setdefault(image, []).append(item)
    return out


def _tracks(images: Images) -> dict[int, BurstTrack]:
    out: dict[int, BurstTrack] = {}
    for image, items in images.items():
        for item in items:
            out.setdefault(item.track, {})[image] = item
    return out


def _by_number(images: Mapping[str, T], frames: list[str]) -> dict[str, T]:
    return {image: images[image] for image in frames if image in images}


def steps(
    video: BurstVideo, truths: Images, predictions: Images, number: int | None, boxes: bool, exemplar: bool
) -> list[Step]:
    """The time steps of a video for the class ``number``: frames with any annotated object, in order.

    Predictions that the video's flags for ``number`` leave undecided are removed (``None``: no flags apply), except
    with ``exemplar``.
    """
    out, nothing = [], np.empty(0, np.int64)
    for image in video.frames:
        if not video.truths.get(image):
            continue
        g, p = truths.get(image, []), predictions.get(image, [])
        known = exemplar or (number in video.negative and number not in video.not_exhaustive)
        if not g and not (p and known):
            continue  # no objects, or none known to be right or wrong
        ids = np.array([i.track for i in p], np.int64)
        if not g:
            out.append(Step(nothing, ids, np.zeros((0, len(p)))))
            continue
        similarity = _similarity(g, p, video.size, boxes)
        keep = np.ones(len(p), np.bool_) if exemplar else _decided(video, similarity, number)
        out.append(Step(np.array([i.track for i in g], np.int64), ids[keep], similarity[:, keep]))
    return out


def _decided(video: BurstVideo, similarity: Floats, number: int | None) -> NDArray[np.bool_]:
    """Which predictions of a frame are known to be right or wrong."""
    truths, predictions = similarity.shape
    if not truths and number not in video.negative:
        return np.zeros(predictions, np.bool_)
    if number not in video.not_exhaustive:
        return np.ones(predictions, np.bool_)
    keep = np.zeros(predictions, np.bool_)
    if truths and predictions:
        sure = np.where(similarity < 0.5 - EPSILON, 0.0, similarity)
        rows, columns = linear_sum_assignment(-sure)
        keep[columns[sure[rows, columns] > EPSILON]] = True
    return keep


def _similarity(g: list[Item], p: list[Item], size: tuple[int, int], boxes: bool) -> Floats:
    """IoU of masks, or of their boxes cut to whole pixels, ``(truths, predictions)``."""
    if not g or not p:
        return np.zeros((len(g), len(p)))
    if not boxes:
        return _mask_iou(g, p, size)
    a, b = (np.trunc(np.asarray(coco.toBbox(_encoded(side, size)), np.float64)) for side in (g, p))
    low = np.maximum(a[:, None, :2], b[None, :, :2])
    high = np.minimum(a[:, None, :2] + a[:, None, 2:], b[None, :, :2] + b[None, :, 2:])
    shared = np.maximum(high - low, 0).prod(-1)
    union = a[:, None, 2:].prod(-1) + b[None, :, 2:].prod(-1) - shared
    return np.asarray(np.divide(shared, union, out=np.zeros_like(shared), where=union > EPSILON))


def _encoded(items: list[Item], size: tuple[int, int]) -> list[dict[str, object]]:
    return [{"size": list(size), "counts": i.counts} for i in items]


def _mask_iou(g: list[Item], p: list[Item], size: tuple[int, int]) -> Floats:
    iou = coco.iou(_encoded(g, size), _encoded(p, size), [0] * len(p))
    return np.asarray(iou, np.float64).reshape(len(g), len(p))


def video_pairs(part: ClassVideo, number: int) -> VideoPairs | None:
    """Whole tracks of a class in a video; predictions only where the class is known to be present or absent."""
    video = part.video
    wanted = _tracks(part.truths)
    found = part.found if wanted or number in video.negative else {}
    if not wanted and not found:
        return None
    scores = np.array([np.mean([i.score for i in track.values()]) for track in found.values()])
    iou = _track_iou(list(found.values()), list(wanted.values()), video.size)
    return VideoPairs(_describe(wanted), _describe(found), scores, iou, number not in video.not_exhaustive)


def _describe(tracks: dict[int, BurstTrack]) -> Tracks:
    return Tracks(
        np.array(list(tracks), np.int64),
        np.array([np.mean([i.area for i in track.values()]) for track in tracks.values()]),
        np.array([float(len(track)) for track in tracks.values()]),
    )


def _track_iou(predictions: list[BurstTrack], truths: list[BurstTrack], size: tuple[int, int]) -> Floats:
    """IoU of whole tracks ``(predictions, truths)``: shared pixels of all frames over those of either."""
    shared = np.zeros((len(predictions), len(truths)), np.int64)
    for p, g, ps, gs in _overlapping_pairs(predictions, truths):
        iou = _mask_iou(ps, gs, size)
        areas = np.array([[i.area] for i in ps]) + np.array([i.area for i in gs])
        # the intersection is an integer, which the IoU and the union determine
        shared[np.ix_(p, g)] += np.rint(iou * areas / (1 + iou)).astype(np.int64)
    total = np.add.outer(
        np.array([sum(i.area for i in t.values()) for t in predictions], np.int64),
        np.array([sum(i.area for i in t.values()) for t in truths], np.int64),
    )
    union = total - shared
    return np.asarray(np.divide(shared, union, out=np.zeros(shared.shape), where=union > 0))


def _overlapping_pairs(
    predictions: list[BurstTrack], truths: list[BurstTrack]
) -> Iterator[tuple[list[int], list[int], list[Item], list[Item]]]:
    """Per image that both sides have: positions of the tracks present and their masks."""
    for image in {image for track in truths for image in track}:
        g = [i for i, track in enumerate(truths) if image in track]
        p = [i for i, track in enumerate(predictions) if image in track]
        if p:
            yield p, g, [predictions[i][image] for i in p], [truths[i][image] for i in g]
