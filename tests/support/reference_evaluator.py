"""A plain evaluator for video AP with pycocotools, as the official tools are built: dense, per pair, in Python.

It follows the protocol's text, not our code, so that the two can be compared; and it is what benchmarks are beside.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from pycocotools import mask as coco

AREAS = {"all": (0, 1e10), "small": (0, 128**2), "medium": (128**2, 256**2), "large": (256**2, 1e10)}
IOUS = np.linspace(0.5, 0.95, 10)
RECALLS = np.linspace(0, 1, 101)


def _bytes(mask: dict[str, Any] | None) -> dict[str, Any] | None:
    return mask and {"size": mask["size"], "counts": mask["counts"].encode()}


def track_iou(track: list[Any], truth: list[Any]) -> float:
    """Intersection over union of two tracks over the frames both lists have."""
    intersection, union = 0.0, 0.0
    for d, g in zip(track, truth, strict=False):
        if d and g:
            intersection += coco.area(coco.merge([d, g], True))
            union += coco.area(coco.merge([d, g], False))
        elif d or g:
            union += coco.area(d or g)
    return intersection / union if union else 0.0


def average_precision(annotations: Path, results: Path) -> dict[str, float]:
    """LV-VIS's AP, APs, APm, APl, AR1, AR10 and AR100 (-1 where undefined) of well-formed files."""
    truth, tracks = json.loads(annotations.read_text()), json.loads(results.read_text())
    truths: dict[tuple[int, int], list[dict[str, Any]]] = {}
    for a in truth["annotations"]:
        areas = [int(x) for x in a["areas"] if x]
        a["area"] = np.mean(areas) if areas else 0.0
        a["masks"] = [_bytes(m) for m in a["segmentations"]]
        truths.setdefault((a["video_id"], a["category_id"]), []).append(a)
    found: dict[tuple[int, int], list[dict[str, Any]]] = {}
    for t in tracks:
        t["masks"] = [_bytes(m) for m in t["segmentations"]]
        areas = [x for x in (int(coco.area(m)) for m in t["masks"] if m) if x]
        t["area"] = np.mean(areas) if areas else 0.0
        found.setdefault((t["video_id"], t["category_id"]), []).append(t)
    videos = sorted(v["id"] for v in truth["videos"])
    categories = sorted(c["id"] for c in truth["categories"])
    ious = {}
    for pair, mine in found.items():
        mine.sort(key=lambda t: -t["score"])
        del mine[100:]
        ious[pair] = np.array([[track_iou(t["masks"], g["masks"]) for g in truths.get(pair, [])] for t in mine])
    out = {}
    for name, (low, high) in AREAS.items():
        precision, recall = [], {cap: [] for cap in (1, 10, 100)}
        for c in categories:
            pairs = [(v, c) for v in videos if (v, c) in truths or (v, c) in found]
            positives = sum(low <= g["area"] <= high for p in pairs for g in truths.get(p, []))
            if not positives:
                continue
            matched = {p: _match(found.get(p, []), truths.get(p, []), ious.get(p), low, high) for p in pairs}
            for cap in recall:
                curve, last = _accumulate(found, matched, pairs, positives, cap)
                recall[cap].append(last)
                if cap == 100:
                    precision.append(curve)
        suffix = "" if name == "all" else name[0]
        out[f"AP{suffix}"] = float(np.mean(precision)) if precision else -1.0
        if name == "all":
            out |= {f"AR{cap}": float(np.mean(r)) if r else -1.0 for cap, r in recall.items()}
    return out


def _match(tracks: list[Any], truths: list[Any], iou: Any, low: float, high: float) -> tuple[Any, Any]:
    ignored = [not low <= g["area"] <= high for g in truths]
    order = sorted(range(len(truths)), key=lambda g: ignored[g])
    hit, dropped = np.zeros((10, len(tracks)), bool), np.zeros((10, len(tracks)), bool)
    for t, threshold in enumerate(IOUS):
        taken: set[int] = set()
        for d in range(len(tracks)):
            best, chosen = min(threshold, 1 - 1e-10), -1
            for g in order:
                if g in taken:
                    continue
                if chosen >= 0 and not ignored[chosen] and ignored[g]:
                    break
                if iou[d, g] >= best:
                    best, chosen = iou[d, g], g
            if chosen >= 0:
                taken.add(chosen)
                hit[t, d], dropped[t, d] = True, ignored[chosen]
            else:
                dropped[t, d] = not low <= tracks[d]["area"] <= high
    return hit, dropped


def _accumulate(found: Any, matched: Any, pairs: Any, positives: int, cap: int) -> tuple[Any, Any]:
    scores = np.array([t["score"] for p in pairs for t in found.get(p, [])[:cap]])
    order = np.argsort(-scores, kind="mergesort")
    hit = np.concatenate([matched[p][0][:, :cap] for p in pairs], 1)[:, order]
    dropped = np.concatenate([matched[p][1][:, :cap] for p in pairs], 1)[:, order]
    curve, last = np.zeros((10, 101)), np.zeros(10)
    for t in range(10):
        tp, fp = np.cumsum(hit[t] & ~dropped[t]).astype(float), np.cumsum(~hit[t] & ~dropped[t]).astype(float)
        rc, pr = tp / positives, tp / (fp + tp + np.spacing(1))
        last[t] = rc[-1] if len(rc) else 0
        pr = np.maximum.accumulate(pr[::-1])[::-1]
        at = np.searchsorted(rc, RECALLS, side="left")
        inside = at < len(pr)
        curve[t, inside] = pr[at[inside]]
    return curve, last
