"""Fixed AP of tracks as its definition says, slowly: dense masks and plain loops; and random small data for it.

It follows the text (Dave et al. 2021, carried over to tracks), not our code, so that the two can be compared.
"""

from __future__ import annotations

import random
from typing import Any, NamedTuple

import numpy as np
from pycocotools import mask as coco

HEIGHT, WIDTH = 12, 16
IOUS = np.linspace(0.5, 0.95, 10)
RECALLS = np.linspace(0, 1, 101)


class Rules(NamedTuple):
    """What differs between protocols: whether crowd truth is ignored, whether a truth can be found again by further
    tracks (BURST), the range of occlusion that counts (OVIS), and the categories that are averaged."""

    crowds: bool = True
    reusable: bool = False
    occlusion: tuple[float, float] | None = None
    members: frozenset[int] | None = None


OCCLUSIONS = {"no_occlusion": 0.0, "slight_occlusion": 0.25, "severe_occlusion": 0.75}
RANGES = {"APso": (0.0, 0.25), "APmo": (0.25, 0.5), "APho": (0.5, 1.0)}


class Found(NamedTuple):
    """A prediction of a category: its score, and by IoU threshold whether it is a hit and whether it is ignored."""

    score: float
    hits: list[bool]
    ignored: list[bool]


def fixed_ap(truth: dict[str, Any], results: list[dict[str, Any]], most: int, rules: Rules) -> dict[str, float | None]:
    """AP, AP50 and AR with the ``most`` best predictions of every category."""
    rows = []
    for category in truth["categories"]:
        if rules.members is not None and category["id"] not in rules.members:
            continue
        mine = [r for r in results if r["category_id"] == category["id"]]
        best = sorted(range(len(mine)), key=lambda at: -mine[at]["score"])[:most]  # sorting is stable
        rows.append(_category(truth, category["id"], [mine[at] for at in sorted(best)], rules))
    known = [row for row in rows if row is not None]
    if not known:
        return dict.fromkeys(("AP", "AP50", "AR"))
    return {key: float(np.mean([row[key] for row in known])) for key in ("AP", "AP50", "AR")}


def _category(truth: dict[str, Any], category: int, mine: list[Any], rules: Rules) -> dict[str, float] | None:
    found: list[Found] = []
    positives = 0
    for video in sorted(truth["videos"], key=lambda one: one["id"]):
        objects = [a for a in truth["annotations"] if (a["video_id"], a["category_id"]) == (video["id"], category)]
        positives += sum(not _is_ignored(a, rules) for a in objects)
        here = sorted((r for r in mine if r["video_id"] == video["id"]), key=lambda r: -r["score"])
        found += _matched(objects, here, rules)
    if not positives:
        return None
    found.sort(key=lambda one: -one.score)
    precisions, recalls = zip(*(_curve(found, at, positives) for at in range(len(IOUS))), strict=True)
    return {"AP": float(np.mean(precisions)), "AP50": precisions[0], "AR": float(np.mean(recalls))}


def _is_ignored(annotation: dict[str, Any], rules: Rules) -> bool:
    if rules.crowds and annotation["iscrowd"]:
        return True
    if rules.occlusion is None:
        return False
    low, high = rules.occlusion
    return not low <= occlusion_of(annotation) <= high


def occlusion_of(annotation: dict[str, Any]) -> float:
    """The mean of the more occluded half of the frames."""
    values = sorted(OCCLUSIONS[one] for one in annotation["occlusion"] if one is not None)
    worst = values[-((len(values) + 1) // 2) :]
    return sum(worst) / len(worst)


def _matched(objects: list[Any], tracks: list[Any], rules: Rules) -> list[Found]:
    objects = sorted(objects, key=lambda a: _is_ignored(a, rules))
    ignored = [_is_ignored(a, rules) for a in objects]
    overlaps = [[_iou(r["segmentations"], a["segmentations"]) for a in objects] for r in tracks]
    found = [Found(r["score"], [], []) for r in tracks]
    for threshold in IOUS:
        taken: set[int] = set()
        for row, one in zip(overlaps, found, strict=True):
            best, at = min(threshold, 1 - 1e-10), -1
            for place, a in enumerate(objects):
                if place in taken and not a["iscrowd"] and not rules.reusable:
                    continue
                if at >= 0 and ignored[place] and not ignored[at]:
                    break
                if row[place] >= best:
                    best, at = row[place], place
            taken |= {at} - {-1}
            one.hits.append(at >= 0 and objects[at]["id"] != 0)  # a match with annotation 0 reads as none
            one.ignored.append(at >= 0 and ignored[at])
    return found


def _curve(found: list[Found], at: int, positives: int) -> tuple[float, float]:
    precision, recall = [], []
    hits = misses = 0
    for one in found:
        if not one.ignored[at]:
            hits, misses = hits + one.hits[at], misses + (not one.hits[at])
        recall.append(hits / positives)
        precision.append(hits / (hits + misses + np.spacing(1)))
    for i in range(len(precision) - 2, -1, -1):
        precision[i] = max(precision[i], precision[i + 1])
    places = np.searchsorted(recall, RECALLS, side="left")
    points = [precision[place] if place < len(precision) else 0.0 for place in places]
    return float(np.mean(points)), recall[-1] if recall else 0.0


def _iou(track: list[Any], truth: list[Any]) -> float:
    one, other = _dense(track), _dense(truth)
    union = int((one | other).sum())
    return int((one & other).sum()) / union if union else 0.0


def _dense(masks: list[Any]) -> Any:
    return np.array([np.zeros((HEIGHT, WIDTH), bool) if m is None else coco.decode(m) > 0 for m in masks])


def random_data(seed: int) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Annotations and results: equal scores and masks, crowds, absent frames, videos without truth or predictions."""
    rng = random.Random(seed)
    shapes = [_box(rng) for _ in range(3)]

    def masks(length: int) -> list[Any]:
        return [
            None if rng.random() < 0.2 else rng.choice(shapes) if rng.random() < 0.6 else _box(rng)
            for _ in range(length)
        ]

    videos = [
        {
            "id": number,
            "width": WIDTH,
            "height": HEIGHT,
            "length": length,
            "file_names": [f"{number}/{t}" for t in range(length)],
        }
        for number in rng.sample(range(1, 20), rng.randint(1, 4))
        for length in [rng.choice([1, 2, 3])]
    ]
    categories = [{"id": i + 1, "name": f"c{i}", "partition": i % 4} for i in range(rng.choice([4, 5]))]
    annotations: list[dict[str, Any]] = []
    results: list[dict[str, Any]] = []
    scores = rng.choice([[0.5], [0.1, 0.5, 0.9], [i / 100 for i in range(100)]])
    for video in videos:
        about = {"video_id": video["id"], "height": HEIGHT, "width": WIDTH}
        for _ in range(rng.choice([0, 1, 2, 4])):
            segmentations = masks(video["length"])
            if any(segmentations):
                areas = [None if m is None else float(coco.area(m)) for m in segmentations]
                annotations.append({"id": len(annotations) + 1, **about, "category_id": rng.choice(categories)["id"],
                                    "iscrowd": int(rng.random() < 0.2), "segmentations": segmentations,
                                    "areas": areas})  # fmt: skip
        for _ in range(rng.choice([0, 2, 6, 12])):
            own = [a for a in annotations if a["video_id"] == video["id"]]
            result = {"video_id": video["id"], "category_id": rng.choice(categories)["id"], "score": rng.choice(scores)}
            segmentations = masks(video["length"])
            if own and rng.random() < 0.5:
                near = rng.choice(own)
                result["category_id"] = near["category_id"]
                segmentations = [m if rng.random() < 0.8 else None for m in near["segmentations"]]
            results.append({**result, "segmentations": segmentations})
    rng.shuffle(results)
    return {"videos": videos, "categories": categories, "annotations": annotations}, results


def with_further_fields(seed: int, truth: dict[str, Any]) -> dict[str, Any]:
    """The annotations with occlusion (OVIS), ids from 0, and BURST's groups and lists of categories by video."""
    rng = random.Random(seed)
    values = rng.choice([list(OCCLUSIONS), ["no_occlusion", "slight_occlusion"], list(OCCLUSIONS)[1:]])
    for number, annotation in enumerate(truth["annotations"]):
        annotation["id"] = number
        annotation["occlusion"] = [None if m is None else rng.choice(values) for m in annotation["segmentations"]]
    for place, category in enumerate(truth["categories"]):
        category["frequency"] = "rcf"[place % 3]
        category["split"] = ("common", "uncommon")[place % 2]
    ids = [category["id"] for category in truth["categories"]]
    for video in truth["videos"]:
        video["neg_category_ids"] = rng.sample(ids, rng.randint(0, len(ids)))
        video["not_exhaustive_category_ids"] = rng.sample(ids, rng.randint(0, 2))
    return truth


def presence(truth: dict[str, Any], results: list[dict[str, Any]]) -> tuple[int, int, int, int]:
    """True and false positives, true and false negatives of words in videos, at a score of 0.5.

    A category is there where it is annotated, and absent where a video lists it as such but not as annotated in part.
    """
    counts = [0, 0, 0, 0]
    for video in truth["videos"]:
        for category in truth["categories"]:
            pair = video["id"], category["id"]
            is_there = any((a["video_id"], a["category_id"]) == pair for a in truth["annotations"])
            listed = category["id"] in video["neg_category_ids"]
            is_absent = listed and category["id"] not in video["not_exhaustive_category_ids"] and not is_there
            is_found = any((r["video_id"], r["category_id"]) == pair and r["score"] >= 0.5 for r in results)
            if is_there or is_absent:
                counts[(0 if is_there else 1) if is_found else (3 if is_there else 2)] += 1
    return counts[0], counts[1], counts[2], counts[3]


def _box(rng: random.Random) -> dict[str, Any]:
    mask = np.zeros((HEIGHT, WIDTH), np.uint8, "F")
    y, x = rng.randrange(HEIGHT - 3), rng.randrange(WIDTH - 3)
    mask[y : y + rng.randint(2, 8), x : x + rng.randint(2, 8)] = 1
    encoded = coco.encode(mask)
    return {"size": encoded["size"], "counts": encoded["counts"].decode()}
