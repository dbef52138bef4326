"""Mask HOTA straight from its definition, one frame after the other, with pycocotools' overlaps; slow."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from pycocotools import mask as coco
from scipy.optimize import linear_sum_assignment
from vis_documents import rle

from harness.arrays import Floats, Ints
from harness.scoring.hota import ALPHAS, EPSILON, Hota, combine


@dataclass(frozen=True)
class Step:
    """One time step: ids of the truths ``(g,)`` and of the predictions ``(p,)``, and similarities ``(g, p)``."""

    truths: Ints
    predictions: Ints
    similarity: Floats


def hota(steps: Sequence[Step]) -> Hota:
    """HOTA of one sequence.

    Pairs are matched step by step, maximising similarity weighted by how well two tracks agree over the sequence.
    """
    n_truths, n_predictions = sum(len(s.truths) for s in steps), sum(len(s.predictions) for s in steps)
    zeros, ones = np.zeros(len(ALPHAS)), np.ones(len(ALPHAS))
    if not n_truths or not n_predictions:
        return Hota(zeros, zeros + n_truths, zeros + n_predictions, zeros, zeros, zeros, ones)
    truth_ids, truth_at = _renumber([s.truths for s in steps])
    prediction_ids, prediction_at = _renumber([s.predictions for s in steps])
    seen_truth = np.bincount(np.concatenate(truth_at), minlength=truth_ids)[:, None].astype(np.float64)
    seen_prediction = np.bincount(np.concatenate(prediction_at), minlength=prediction_ids)[None, :].astype(np.float64)
    both = [
        (step.similarity, g, p) for step, g, p in zip(steps, truth_at, prediction_at, strict=True) if len(g) and len(p)
    ]
    agreement = np.zeros((truth_ids, prediction_ids))
    for s, g, p in both:
        total = s.sum(0)[None, :] + s.sum(1)[:, None] - s
        np.add.at(agreement, (g[:, None], p[None, :]), np.divide(s, total, out=np.zeros_like(s), where=total > EPSILON))
    alignment = agreement / (seen_truth + seen_prediction - agreement)
    tp, loc = zeros.copy(), zeros.copy()
    matches = np.zeros((len(ALPHAS), truth_ids, prediction_ids))
    for s, g, p in both:
        rows, columns = linear_sum_assignment(-(alignment[g[:, None], p[None, :]] * s))
        similarity = s[rows, columns]
        hit = similarity >= ALPHAS[:, None] - EPSILON  # (19, pairs)
        tp += hit.sum(1)
        loc += (similarity * hit).sum(1)
        matches[:, g[rows], p[columns]] += hit
    fn, fp = n_truths - tp, n_predictions - tp
    together = np.maximum(1, seen_truth + seen_prediction - matches)
    found = np.maximum(1, tp)
    return Hota(
        tp, fn, fp,
        (matches * (matches / together)).sum((1, 2)) / found,
        (matches * (matches / np.maximum(1, seen_truth))).sum((1, 2)) / found,
        (matches * (matches / np.maximum(1, seen_prediction))).sum((1, 2)) / found,
        np.maximum(1e-10, loc) / np.maximum(1e-10, tp),
    )  # fmt: skip


def _renumber(ids: Sequence[Ints]) -> tuple[int, list[Ints]]:
    """Ids as positions in the ascending list of all of them; also how many there are."""
    known, position = np.unique(np.concatenate([np.empty(0, np.int64), *ids]), return_inverse=True)
    ends = np.cumsum([len(i) for i in ids])
    return len(known), np.split(position.reshape(-1), ends[:-1])


def scene(seed: int) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Annotations and predictions that come and go, share masks, have none of their pixels, or no truth."""
    rng = random.Random(seed)
    categories = [{"id": i, "name": f"class {i}"} for i in rng.sample(range(40), rng.randrange(1, 5))]
    document: dict[str, Any] = {"videos": [], "categories": categories, "annotations": []}
    predictions = []
    ids = rng.sample(range(200), 40)
    for video in rng.sample(range(50), rng.randrange(1, 4)):
        frames, height, width = rng.randrange(1, 6), rng.randrange(6, 14), rng.randrange(6, 14)
        names = [f"{video}/{f}.jpg" for f in range(frames)]
        size = {"height": height, "width": width}
        document["videos"].append({"id": video, **size, "length": frames, "file_names": names})
        pool = [_box(rng, height, width) for _ in range(4)]
        for _ in range(rng.randrange(4)):
            document["annotations"].append(
                {"id": ids.pop(), "video_id": video, "category_id": rng.choice(categories)["id"], "iscrowd": 0,
                 "segmentations": _masks(rng, pool, frames), "areas": [None] * frames}
            )  # fmt: skip
        for _ in range(rng.randrange(6)):
            predictions.append(
                {"video_id": video, "category_id": rng.choice(categories)["id"], "score": round(rng.random(), 1),
                 "segmentations": _masks(rng, pool, frames)}
            )  # fmt: skip
    rng.shuffle(document["annotations"])
    rng.shuffle(predictions)
    return document, predictions


def _box(rng: random.Random, height: int, width: int) -> dict[str, Any]:
    mask = np.zeros((height, width), np.uint8)
    if rng.random() > 0.1:
        top, left = rng.randrange(height), rng.randrange(width)
        mask[top : top + rng.randrange(1, height), left : left + rng.randrange(1, width)] = 1
    return rle(mask)


def _masks(rng: random.Random, pool: list[dict[str, Any]], frames: int) -> list[Any]:
    return [None if rng.random() < 0.2 else rng.choice(pool) for _ in range(frames)]


def class_scores(document: dict[str, Any], predictions: list[dict[str, Any]]) -> dict[int, Hota]:
    """HOTA of every category over all videos."""
    out = {}
    for category in document["categories"]:
        parts = []
        for video in document["videos"]:
            key = (video["id"], category["id"])
            truths, found = (
                [track for track in tracks if (track["video_id"], track["category_id"]) == key]
                for tracks in (document["annotations"], predictions)
            )
            parts.append(hota([_step(truths, found, frame) for frame in range(video["length"])]))
        out[category["id"]] = combine(parts)
    return out


def _step(truths: list[dict[str, Any]], predictions: list[dict[str, Any]], frame: int) -> Step:
    ids, masks = [], []
    for side in (truths, predictions):
        here = [(i, t["segmentations"][frame]) for i, t in enumerate(side) if t["segmentations"][frame]]
        ids.append(np.array([i for i, _ in here], np.int64))
        masks.append([{"size": m["size"], "counts": m["counts"].encode()} for _, m in here])
    iou = coco.iou(masks[0], masks[1], [0] * len(masks[1])) if masks[0] and masks[1] else []
    return Step(ids[0], ids[1], np.asarray(iou, np.float64).reshape(len(ids[0]), len(ids[1])))
