"""BURST's guided tasks once more, slowly and on decoded masks, and small random scenes to compare them on.

Written from the rules of the protocol, with nothing of `harness.scoring` but the lists of classes.
"""

from __future__ import annotations

import random
from typing import Any

import numpy as np
from pycocotools import mask as coco
from scipy.optimize import linear_sum_assignment
from vis_documents import rle

from harness.formats.burst import COMMON
from harness.scoring.burst_tracks import DISTRACTORS, class_table

EPS = np.finfo(float).eps
CLASSES = (4, 13, 156, 429, 504, 347, 529, 967, 20, 207, 554)
"""Common and uncommon ones, distractors, and some that are merged."""


def numbers(truth: dict[str, Any], predicted: dict[str, Any], exemplar: bool, ids_of_truth: bool) -> dict[str, Any]:
    """HOTA, DetA, AssA and AP of all, common and uncommon classes; ``None`` without truth.

    ``exemplar`` turns the filter off; ``ids_of_truth`` takes ids and classes from the truth's tracks (TrackEval).
    """
    names, merged = class_table()
    wanted: list[dict[str, Any]] = []  # masks: video, frame number, position in the file, track, class, pixels
    known: dict[Any, Any] = {}
    size, flags, listed = {}, {}, {}
    for s in truth["sequences"]:
        video = f"{truth['split']}-{s['dataset']}-{s['seq_name']}"
        size[video], flags[video] = (s["height"], s["width"]), s
        for track, category in s["track_category_ids"].items():
            known[s["id"], track] = (len(known) + 1, merged.get(category, category))
        for path, frame in zip(s["annotated_image_paths"], s["segmentations"], strict=True):
            listed[video, path] = True
            for track, mask in frame.items():
                if s["track_category_ids"][track] not in DISTRACTORS:
                    number, category = known[s["id"], track]
                    wanted.append(one(video, path, number, category, 1.0, mask, size))
    given = []
    for s in predicted["sequences"]:
        video = f"{truth['split']}-{s['dataset']}-{s['seq_name']}"
        for path, frame in zip(s["annotated_image_paths"], s["segmentations"], strict=True):
            for track, mask in frame.items() if (video, path) in listed else ():
                number, category = int(track), mask.get("category_id", s["track_category_ids"].get(track))
                if ids_of_truth:
                    number, category = known[s["id"], track]
                    if not any(w["track"] == number for w in wanted):
                        continue
                given.append(one(video, path, number, merged.get(category, category), mask.get("score", 1), mask, size))
    last = max((g["track"] for g in given), default=0)
    for number in sorted({g["track"] for g in given}):  # all that matters is that videos share no number
        for video in sorted({g["video"] for g in given if g["track"] == number})[1:]:
            last += 1
            for g in given:
                if (g["video"], g["track"]) == (video, number) and "new" not in g:
                    g["new"] = last
    for g in given:
        g["track"] = g.get("new", g["track"])
    rows = {}
    for category in names:
        if category not in DISTRACTORS and any(w["class"] == category for w in wanted):
            hota = hota_of(category, wanted, given, flags, exemplar)
            rows[category] = dict(zip(("HOTA", "DetA", "AssA"), hota, strict=True))
            rows[category]["AP"] = ap_of(category, wanted, given, flags)
    out = {}
    for group in ("all", "common", "uncommon"):
        members = [row for c, row in rows.items() if group == "all" or (c in COMMON) == (group == "common")]
        for key in ("HOTA", "DetA", "AssA", "AP"):
            out[f"{key}_{group}"] = sum(row[key] for row in members) / len(members) if members else None
    return out


def one(video: str, path: str, track: int, category: int, score: float, mask: Any, size: Any) -> dict[str, Any]:
    encoded = {"size": list(size[video]), "counts": mask["rle"].encode()}
    pixels = coco.decode(encoded).astype(bool)
    number = int(path.removesuffix(".jpg").removeprefix("frame"))
    return {"video": video, "frame": number, "track": track, "class": category, "score": score, "pixels": pixels}


def box(pixels: np.ndarray) -> tuple[int, int, int, int]:
    rows, columns = np.flatnonzero(pixels.any(1)), np.flatnonzero(pixels.any(0))
    return (columns[0], rows[0], columns[-1] + 1, rows[-1] + 1) if len(rows) else (0, 0, 0, 0)


def box_iou(a: np.ndarray, b: np.ndarray) -> float:
    (x0, y0, x1, y1), (u0, v0, u1, v1) = box(a), box(b)
    shared = max(0, min(x1, u1) - max(x0, u0)) * max(0, min(y1, v1) - max(y0, v0))
    union = (x1 - x0) * (y1 - y0) + (u1 - u0) * (v1 - v0) - shared
    return shared / union if union else 0.0


def hota_of(category: int, wanted: Any, given: Any, flags: Any, exemplar: bool) -> tuple[float, float, float]:
    """Means over the localisation thresholds of HOTA, DetA and AssA."""
    tp, fn, fp, weighted = np.zeros(19), np.zeros(19), np.zeros(19), np.zeros(19)
    for video in flags:
        steps = []
        for frame in sorted({w["frame"] for w in wanted if w["video"] == video}):
            here = [[m for m in side if (m["video"], m["frame"], m["class"]) == (video, frame, category)]
                    for side in (wanted, given)]  # fmt: skip
            g, p = here
            s = np.array([[box_iou(a["pixels"], b["pixels"]) for b in p] for a in g]).reshape(len(g), len(p))
            keep = list(range(len(p)))
            if not exemplar:
                sure = np.where(s < 0.5 - EPS, 0, s)
                pairs = zip(*linear_sum_assignment(-sure), strict=True)
                matched = [j for i, j in pairs if sure[i, j] > EPS]
                absent = not g and category not in flags[video]["neg_category_ids"]
                if absent or category in flags[video]["not_exhaustive_category_ids"]:
                    keep = [] if absent else matched
            keep.sort()
            steps.append(([m["track"] for m in g], [p[j]["track"] for j in keep], s[:, keep]))
        both: dict[Any, float] = {}
        seen: list[dict[int, int]] = [{}, {}]
        for g, p, s in steps:
            for side, ids in enumerate((g, p)):
                for i in ids:
                    seen[side][i] = seen[side].get(i, 0) + 1
            for i, a in enumerate(g):
                for j, b in enumerate(p):
                    total = s[i].sum() + s[:, j].sum() - s[i, j]
                    both[a, b] = both.get((a, b), 0) + (s[i, j] / total if total > EPS else 0)
        for t in range(19):
            hits: dict[Any, int] = {}
            found = 0
            for g, p, s in steps:
                weight = np.array([[both[a, b] / (seen[0][a] + seen[1][b] - both[a, b]) for b in p] for a in g])
                for i, j in zip(*linear_sum_assignment(-weight.reshape(s.shape) * s), strict=True):
                    if s[i, j] >= 0.05 + 0.05 * t - 1e-12:
                        hits[g[i], p[j]] = hits.get((g[i], p[j]), 0) + 1
                        found += 1
            tp[t] += found
            fn[t] += sum(len(g) for g, _, _ in steps) - found
            fp[t] += sum(len(p) for _, p, _ in steps) - found
            weighted[t] += sum(n * n / (seen[0][a] + seen[1][b] - n) for (a, b), n in hits.items())
    association, detection = weighted / np.maximum(1, tp), tp / np.maximum(1, tp + fn + fp)
    return float(np.sqrt(association * detection).mean()), float(detection.mean()), float(association.mean())


def ap_of(category: int, wanted: Any, given: Any, flags: Any) -> float:
    """Track AP of a class, all areas and lengths."""
    entries, positives = [], 0  # score, and per threshold whether it hits or counts for nothing
    for video in sorted(flags):
        truths: dict[int, list[Any]] = {}
        for w in wanted:
            if (w["video"], w["class"]) == (video, category):
                truths.setdefault(w["track"], []).append(w)
        tracks: dict[int, list[Any]] = {}
        for g in given:
            if g["video"] == video:
                tracks.setdefault(g["track"], []).append(g)
        tracks = {i: t for i, t in tracks.items() if t[0]["class"] == category}
        positives += len(truths)
        if not truths and category not in flags[video]["neg_category_ids"]:
            continue
        scored = [(np.mean([m["score"] for m in sorted(t, key=lambda m: m["frame"])]), i, t) for i, t in tracks.items()]
        scored.sort(key=lambda entry: -entry[0])
        results = [[""] * 10 for _ in scored]
        for t in range(10):
            taken: set[int] = set()
            for row, (_, number, masks) in enumerate(scored):
                best, match = min(0.5 + 0.05 * t, 1 - 1e-10), None
                for i, truth in truths.items():
                    overlap = track_iou(masks, truth)
                    if i not in taken and overlap >= best - 1e-12:
                        best, match = overlap, i
                if match is not None:
                    results[row][t] = "hit"
                    taken |= {match} if number > 0 else set()
                elif category in flags[video]["not_exhaustive_category_ids"]:
                    results[row][t] = "nothing"
        entries += [(score, result) for (score, _, _), result in zip(scored, results, strict=True)]
    entries.sort(key=lambda entry: -entry[0])
    total = 0.0
    for t in range(10):
        hits, misses, curve = 0, 0, []
        for _, result in entries:
            hits, misses = hits + (result[t] == "hit"), misses + (not result[t])
            curve.append((hits / positives, hits / max(1, hits + misses)))
        total += sum(max((p for r, p in curve if r >= point / 100 - 1e-12), default=0) for point in range(101)) / 101
    return total / 10


def track_iou(a: list[Any], b: list[Any]) -> float:
    one, two = ({m["frame"]: m["pixels"] for m in side} for side in (a, b))
    shared = sum(int((one[f] & two[f]).sum()) for f in one.keys() & two.keys())
    union = sum(int(m.sum()) for side in (one, two) for m in side.values()) - shared
    return shared / union if union else 0.0


def scene(seed: int) -> tuple[dict[str, Any], dict[str, Any]]:
    """A truth and predictions of one to three small videos: frames out of order, shared ids, equal scores."""
    draw = random.Random(seed)
    classes = draw.sample(CLASSES, draw.randint(1, 4))
    truths, predictions = [], []
    for video in range(draw.randint(1, 3)):
        height, width = draw.randint(4, 14), draw.randint(4, 14)
        frames = [f"frame{30 * n:04d}.jpg" for n in draw.sample(range(1, 300), draw.randint(1, 4))]
        tracks = [str(i) for i in draw.sample(range(1, 9), draw.randint(1, 3))]
        categories = {i: draw.choice(classes) for i in tracks}
        masks = [{i: drawn(draw, height, width) for i in tracks if draw.random() < 0.7} for _ in frames]
        flags = {key: [c for c in CLASSES if draw.random() < 0.3]
                 for key in ("neg_category_ids", "not_exhaustive_category_ids")}  # fmt: skip
        shared = {"id": 7 * video + draw.randint(1, 7), "dataset": "d", "seq_name": f"s{video}"}
        shared |= {"height": height, "width": width}
        truths.append(shared | flags | {"annotated_image_paths": frames, "segmentations": masks,
                                        "track_category_ids": categories})  # fmt: skip
        order = draw.sample(range(len(frames)), len(frames))
        found = []
        for f in order:
            found.append({i: drawn(draw, height, width) for i in tracks if draw.random() < 0.8})
            for i, mask in found[-1].items():
                if i in masks[f] and draw.random() < 0.7:
                    mask["rle"] = masks[f][i]["rle"]
                if draw.random() < 0.4:
                    mask["score"] = draw.choice([0.1, 0.2, 0.5])
                if draw.random() < 0.2:
                    mask["category_id"] = draw.choice(classes)
        own = {i: categories[i] if draw.random() < 0.6 else draw.choice(classes) for i in tracks}
        predictions.append(shared | {"annotated_image_paths": [frames[f] for f in order], "segmentations": found,
                                     "track_category_ids": own})  # fmt: skip
    draw.shuffle(predictions)
    return {"split": "val", "sequences": truths}, {"split": "val", "sequences": predictions}


def drawn(draw: random.Random, height: int, width: int) -> dict[str, Any]:
    """A mask of one box, or an empty one."""
    mask = np.zeros((height, width), np.uint8)
    if draw.random() < 0.9:
        top, left = draw.randrange(height), draw.randrange(width)
        mask[top : top + draw.randint(1, height), left : left + draw.randint(1, width)] = 1
    return {"rle": rle(mask)["counts"]}
