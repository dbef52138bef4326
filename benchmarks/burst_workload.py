"""Converts a YouTube-VIS workload to BURST's class-guided task: ``python -m burst_workload GT RESULTS FOLDER``.

Videos become sequences; categories become the first LVIS 0.5 ids that are not distractors. It writes the three
annotation files of a split to FOLDER/gt and the predictions to FOLDER/predictions.json, for ``harness eval --protocol
burst-class-guided`` and for the official tools. Masks must be compressed, as the workload generators write them.
"""

from __future__ import annotations

import json
import sys
from collections import defaultdict
from pathlib import Path
from typing import Any

from harness.formats.burst import COMMON
from harness.scoring.burst_tracks import DISTRACTORS, class_table

SPLIT = "val"


def classes(categories: list[dict[str, Any]]) -> dict[int, int]:
    """Return the LVIS id of each category id, in the order of the file."""
    ids = [number for number in class_table()[0] if number not in DISTRACTORS]
    return {category["id"]: number for category, number in zip(categories, ids, strict=False)}


def sequences(document: dict[str, Any], tracks: list[dict[str, Any]], numbers: dict[int, int]) -> list[dict[str, Any]]:
    """Return one sequence per video, with the masks of ``tracks`` by frame; empty masks are kept."""
    by_video: dict[int, list[dict[str, Any]]] = defaultdict(list)
    for track in tracks:
        by_video[track["video_id"]].append(track)
    out = []
    for video in document["videos"]:
        mine = by_video[video["id"]]
        frames: list[dict[str, Any]] = [{} for _ in range(video["length"])]
        for number, track in enumerate(mine, start=1):
            score = {} if "score" not in track else {"score": track["score"]}
            for frame, mask in zip(frames, track["segmentations"], strict=False):
                if mask is not None:
                    frame[str(number)] = {"rle": mask["counts"], **score}
        present = {numbers[a["category_id"]] for a in mine}
        out.append({
            "id": video["id"], "dataset": "made", "seq_name": f"video{video['id']:05d}",
            "width": video["width"], "height": video["height"], "fps": 1, "all_image_paths": [],
            "annotated_image_paths": [f"frame{f:06d}.jpg" for f in range(video["length"])],
            "segmentations": frames,
            "track_category_ids": {str(i): numbers[t["category_id"]] for i, t in enumerate(mine, start=1)},
            "neg_category_ids": sorted(set(numbers.values()) - present), "not_exhaustive_category_ids": [],
        })  # fmt: skip
    return out


def main(gt: Path, results: Path, folder: Path) -> None:
    """Read the ground truth ``gt`` and ``results``, and write the BURST files to ``folder``."""
    document, predictions = json.loads(gt.read_text()), json.loads(results.read_text())
    numbers = classes(document["categories"])
    (folder / "gt").mkdir(parents=True, exist_ok=True)
    names = class_table()[0]
    for part, chosen in (("all", set(names)), ("common", COMMON), ("uncommon", set(names) - COMMON)):
        kept = [a for a in document["annotations"] if numbers[a["category_id"]] in chosen]
        categories = [{"id": i, "name": names[i]} for i in numbers.values() if i in chosen]
        content = {"sequences": sequences(document, kept, numbers), "categories": categories, "split": SPLIT}
        (folder / "gt" / f"{part}_classes.json").write_text(json.dumps(content))
    content = {"sequences": sequences(document, predictions, numbers), "categories": [], "split": SPLIT}
    (folder / "predictions.json").write_text(json.dumps(content))


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:4]))
