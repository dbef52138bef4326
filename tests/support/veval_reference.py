"""SA-Co/VEval's numbers by their definitions, with pixels and loops: slow, and independent of the scorer.

Also seeded files of truth and predictions, odd in the ways in which such files are.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
from pycocotools import mask as coco
from scipy.optimize import linear_sum_assignment
from vis_documents import rle

THRESHOLDS = [0.5 + i * (0.45 / 9) for i in range(10)]
ALPHAS = [0.05 + i * 0.05 for i in range(19)]
HOTA_NAMES = ("HOTA", "DetA", "AssA", "DetRe", "DetPr", "AssRe", "AssPr", "LocA", "OWTA")


def pixels(entry: dict[str, Any] | None) -> np.ndarray | None:
    return coco.decode(entry).astype(bool) if entry else None


def track_iou(found: dict[str, Any], wanted: dict[str, Any]) -> float:
    common = either = 0
    for p, g in zip(map(pixels, found["segmentations"]), map(pixels, wanted["segmentations"]), strict=False):
        if p is not None and g is not None:
            if p.shape == g.shape:
                common += int((p & g).sum())
                either += int((p | g).sum())
        elif p is not None or g is not None:
            either += int((p if p is not None else g).sum())  # type: ignore[union-attr]
    return common / either if either else 1.0


def cgf1(truth: dict[str, Any], predictions: list[dict[str, Any]], without_low: bool = False) -> dict[str, float]:
    if without_low:
        predictions = [p for p in predictions if p["score"] >= 0.5]
    pairs = _pairs(truth["annotations"], predictions, truth["video_np_pairs"])
    counts = np.zeros((4, 10))  # TP, FP, FP of positive pairs, FN
    presence = np.zeros((2, 2), np.int64)
    for pair in pairs:
        wanted = [a for a in _of(pair, truth["annotations"]) if not a["iscrowd"]]
        found = [p for p in _of(pair, predictions) if p["score"] >= 0.5]
        presence[int(bool(wanted)), int(bool(found))] += 1
        iou = np.array([[track_iou(p, a) for a in wanted] for p in found]).reshape(len(found), len(wanted))
        joined = iou[linear_sum_assignment(-iou)]
        for t, threshold in enumerate(THRESHOLDS):
            tp = int((joined >= threshold).sum())
            counts[:, t] += (
                tp,
                len(found) - tp,
                (len(found) - tp) * bool(wanted and found),
                len(wanted) - tp,
            )
    tp, _, fp, fn = counts
    precision, recall = tp / (tp + fp + 1e-4), tp / (tp + fn + 1e-4)
    f1 = 2 * precision * recall / (precision + recall + 1e-4)
    ((tn, false), (missed, hit)) = presence.tolist()
    root = float((hit + false) * (hit + missed) * (tn + false) * (tn + missed)) ** 0.5
    mcc = (hit * tn - false * missed) / (root + 1e-6)
    out = {"IL_MCC": mcc}
    for suffix, part in (("", slice(None)), ("_50", slice(0, 1)), ("_75", slice(5, 6))):
        out |= {f"pmF1{suffix}": f1[part].mean(), f"cgF1{suffix}": (f1 * mcc)[part].mean()}
    return out


def phrase_ap(truth: dict[str, Any], predictions: list[dict[str, Any]]) -> dict[str, float | None]:
    ranked: list[list[tuple[float, bool, bool]]] = [[] for _ in THRESHOLDS]  # score, hit, dropped
    positives = 0
    for pair in sorted(_pairs(truth["annotations"], predictions)):
        wanted = sorted(_of(pair, truth["annotations"]), key=lambda a: a["iscrowd"])
        found = sorted(_of(pair, predictions), key=lambda p: -p["score"])[:100]
        positives += sum(not a["iscrowd"] for a in wanted)
        iou = [[track_iou(p, a) for a in wanted] for p in found]
        for t, threshold in enumerate(THRESHOLDS):
            taken: set[int] = set()
            for i, p in enumerate(found):
                best, match = min(threshold, 1 - 1e-10), -1
                for j, a in enumerate(wanted):
                    if j in taken and not a["iscrowd"]:
                        continue
                    if match >= 0 and not wanted[match]["iscrowd"] and a["iscrowd"]:
                        break
                    if iou[i][j] >= best:
                        best, match = iou[i][j], j
                if match >= 0:
                    taken.add(match)
                dropped = match >= 0 and bool(wanted[match]["iscrowd"])
                ranked[t].append((p["score"], match >= 0 and wanted[match]["id"] != 0, dropped))
    if not positives:
        return dict.fromkeys(("pAP", "pAP50", "pAP75"))
    precision = np.array([_envelope(sorted(one, key=lambda r: -r[0]), positives) for one in ranked])
    return {"pAP": precision.mean(), "pAP50": precision[0].mean(), "pAP75": precision[5].mean()}


def _envelope(ranked: list[tuple[float, bool, bool]], positives: int) -> list[float]:
    tp = np.cumsum([hit and not dropped for _, hit, dropped in ranked]).astype(float)
    fp = np.cumsum([not hit and not dropped for _, hit, dropped in ranked]).astype(float)
    recall, precision = tp / positives, tp / (fp + tp + np.spacing(1))
    out = []
    for point in 0.01 * np.arange(101):
        at = np.searchsorted(recall, point)
        out.append(precision[at:].max() if at < len(precision) else 0.0)
    return out


def phrase_hota(truth: dict[str, Any], predictions: list[dict[str, Any]], from_half: bool = False) -> dict[str, float]:
    """All masks have their video's size, and every list its length."""
    kept = [p for p in predictions if (p["score"] >= 0.5 if from_half else p["score"] > 0.5)]
    parts = []
    for pair in _pairs(truth["annotations"], kept):
        wanted, found = _of(pair, truth["annotations"]), _of(pair, kept)
        length = next(len(v["file_names"]) for v in truth["videos"] if v["id"] == pair[0])
        parts.append(_hota(wanted, found, length))
    tp, fn, fp = (sum(part[k] for part in parts) for k in range(3))
    ass_a, ass_re, ass_pr = (sum(part[k] * part[0] for part in parts) / np.maximum(1, tp) for k in range(3, 6))
    loc_a = np.maximum(1e-10, sum(part[6] * part[0] for part in parts)) / np.maximum(1e-10, tp)
    det_a, det_re = tp / np.maximum(1, tp + fn + fp), tp / np.maximum(1, tp + fn)
    det_pr = tp / np.maximum(1, tp + fp)
    arrays = (np.sqrt(det_a * ass_a), det_a, ass_a, det_re, det_pr, ass_re, ass_pr, loc_a, np.sqrt(det_re * ass_a))
    return {f"p{name}": float(array.mean()) for name, array in zip(HOTA_NAMES, arrays, strict=True)}


def _hota(wanted: list[dict[str, Any]], found: list[dict[str, Any]], length: int) -> list[np.ndarray]:
    g = [[pixels(a["segmentations"][f]) for a in wanted] for f in range(length)]
    p = [[pixels(d["segmentations"][f]) if _is_shown(d, f) else None for d in found] for f in range(length)]
    iou = np.zeros((length, len(wanted), len(found)))
    seen_g, seen_p = np.zeros(len(wanted)), np.zeros(len(found))
    agreement = np.zeros((len(wanted), len(found)))
    for f in range(length):
        seen_g += [m is not None for m in g[f]]
        seen_p += [m is not None for m in p[f]]
        for i, a in enumerate(g[f]):
            for j, b in enumerate(p[f]):
                if a is not None and b is not None and (a & b).any():
                    iou[f, i, j] = (a & b).sum() / (a | b).sum()
        total = iou[f].sum(0)[None] + iou[f].sum(1)[:, None] - iou[f]
        agreement += np.divide(iou[f], total, out=np.zeros_like(total), where=total > 2.2e-16)
    both = seen_g[:, None] + seen_p[None] - agreement
    alignment = np.divide(agreement, both, out=np.zeros_like(both), where=both > 0)
    tp, loc, matches = np.zeros(19), np.zeros(19), np.zeros((19, len(wanted), len(found)))
    for f in range(length):
        rows = [i for i, m in enumerate(g[f]) if m is not None]
        columns = [j for j, m in enumerate(p[f]) if m is not None]
        square = np.ix_(rows, columns)
        for i, j in zip(*linear_sum_assignment(-(alignment[square] * iou[f][square])), strict=True):
            for a, alpha in enumerate(ALPHAS):
                if iou[f, rows[i], columns[j]] >= alpha - np.finfo(float).eps:
                    tp[a] += 1
                    loc[a] += iou[f, rows[i], columns[j]]
                    matches[a, rows[i], columns[j]] += 1
    hits = np.maximum(1, tp)
    ways = (
        np.maximum(1, seen_g[:, None] + seen_p[None] - matches),
        np.maximum(1, seen_g[:, None]),
        np.maximum(1, seen_p),
    )
    association = [(matches * matches / way).sum((1, 2)) / hits for way in ways]
    located = np.maximum(1e-10, loc) / np.maximum(1e-10, tp)
    return [tp, seen_g.sum() - tp, seen_p.sum() - tp, *association, located]


def _is_shown(track: dict[str, Any], frame: int) -> bool:
    box = track["bboxes"][frame]
    return track["areas"][frame] != 0 and box is not None and any(box)


def _of(pair: tuple[Any, Any], records: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [r for r in records if (r["video_id"], r["category_id"]) == pair]


def _pairs(*lists: Iterable[dict[str, Any]]) -> list[tuple[Any, Any]]:
    return list(dict.fromkeys((r["video_id"], r["category_id"]) for records in lists for r in records))


def boxed(masks: list[np.ndarray | None]) -> dict[str, Any]:
    """Segmentations, boxes and areas of masks as SA-Co's results have them."""
    entries = [None if m is None else rle(m) for m in masks]
    return {
        "segmentations": entries,
        "bboxes": [[0.0] * 4 if e is None else [float(x) for x in coco.toBbox(e)] for e in entries],
        "areas": [0 if m is None else int(m.sum()) for m in masks],
    }


def scene(seed: int) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Small files with negatives, crowd, masks without a pixel, phrases that nobody asked, and scores around 0.5."""
    rng = np.random.default_rng(seed)
    phrases = sorted(rng.choice(20, rng.integers(1, 5), replace=False).tolist())
    videos, annotations, predictions, pairs = [], [], [], []
    for v in range(int(rng.integers(1, 4))):
        frames, size = int(rng.integers(1, 5)), tuple(rng.integers(6, 20, 2).tolist())
        names = [f"clip_{v}/{f:05d}.jpg" for f in range(frames)]
        videos.append({"id": v, "video_name": f"clip_{v}", "height": size[0], "width": size[1], "file_names": names})
        for phrase in phrases:
            tracks = [_masks(rng, frames, size) for _ in range(int(rng.integers(0, 4)) * int(rng.integers(0, 2)))]
            for masks in tracks:
                head = {"id": len(annotations) + int(rng.integers(0, 2) == 0 or seed % 5 > 0), "video_id": v}
                if any(a["id"] == head["id"] for a in annotations):
                    head["id"] = 100 + len(annotations)
                crowd = int(seed % 3 == 0 and rng.random() < 0.3)
                found = boxed(masks)
                found["bboxes"] = [b if m is not None else None for b, m in zip(found["bboxes"], masks, strict=True)]
                found["areas"] = [a if m is not None else None for a, m in zip(found["areas"], masks, strict=True)]
                annotations.append({**head, "category_id": phrase, "iscrowd": crowd, **found})
            for masks in [*(t for t in tracks for _ in range(rng.integers(0, 3))), *_spurious(rng, frames, size)]:
                score = round(float(rng.choice([0.3, 0.5, 0.7, rng.random()])), 2)
                asked = phrase if rng.random() < 0.9 else 50
                moved = [m if m is None else np.roll(m, rng.integers(-1, 2), rng.integers(0, 2)) for m in masks]
                predictions.append({"video_id": v, "category_id": asked, "score": score, **boxed(moved)})
            if rng.random() < 0.8:
                count = len(tracks)
                pairs.append({"id": len(pairs), "video_id": v, "category_id": phrase, "num_masklets": count})
    categories = [{"id": p, "name": f"phrase {p}"} for p in phrases]
    document = {"videos": videos, "categories": categories, "annotations": annotations, "video_np_pairs": pairs}
    order = rng.permutation(len(predictions)).tolist()
    return document, [predictions[i] for i in order]


def _masks(rng: np.random.Generator, frames: int, size: tuple[int, ...]) -> list[np.ndarray | None]:
    base = np.zeros(size, bool)
    top, left = rng.integers(0, size[0]), rng.integers(0, size[1])
    base[top : top + rng.integers(1, 9), left : left + rng.integers(1, 9)] = True
    out: list[np.ndarray | None] = []
    for _ in range(frames):
        kind = rng.random()
        out.append(None if kind < 0.15 else base & False if kind < 0.2 else np.roll(base, rng.integers(-1, 2), 0))
    return out


def _spurious(rng: np.random.Generator, frames: int, size: tuple[int, ...]) -> list[list[np.ndarray | None]]:
    return [_masks(rng, frames, size) for _ in range(int(rng.integers(0, 3)) * int(rng.random() < 0.4))]
