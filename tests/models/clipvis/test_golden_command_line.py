"""The golden clips through ``harness run`` and ``harness export``: the same tracks as the official implementation's.

Needs HARNESS_GOLDEN: a checkpoint of the released size is made from the recipe.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import clipvis_golden
import pytest
import torch
import weight_recipe
from PIL import Image
from pycocotools import mask as coco

from harness.models.clipvis.network import ClipVisArchitecture, ClipVisNetwork


def harness(*arguments: object, cwd: Path) -> None:
    command = [sys.executable, "-P", "-c", "from harness.cli.main import main; main()", *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=cwd, timeout=600)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("name", [n for n in clipvis_golden.cases("g_e2e_") if n.startswith("g_e2e_rn50_0")])
def test_command_line_reproduces_the_official_tracks(name: str, tmp_path: Path) -> None:
    golden, facts = clipvis_golden.tensors(name), clipvis_golden.facts(name)
    frames = golden["frames"].numpy()
    (tmp_path / "frames").mkdir()
    names = [f"{f:05d}.png" for f in range(len(frames))]
    for file, frame in zip(names, frames, strict=True):
        Image.fromarray(frame).save(tmp_path / "frames" / file)
    height, width = frames.shape[1:3]
    video = {"id": 1, "height": height, "width": width, "length": len(frames), "file_names": names}
    categories = [{"id": i, "name": text, "partition": 0} for i, text in enumerate(facts["classes"], 1)]
    document = {"videos": [video], "categories": categories, "annotations": None}
    (tmp_path / "gt.json").write_text(json.dumps(document))
    with torch.device("meta"):
        network = ClipVisNetwork(ClipVisArchitecture("RN50"))
    torch.save({"model": weight_recipe.state(network.state_dict())}, tmp_path / "rn50.pth")
    settings = {
        "short_edge": facts["min_size_test"],
        "long_edge": facts["max_size_test"],
        "detections_per_video": facts["topk"],
        "memory_length": facts["T"],
        "topk": facts["K"],
    }
    harness(
        "run", "--model", "clipvis", "--checkpoint", "rn50.pth", "--annotations", "gt.json", "--frames", "frames",
        "--protocol", "ytvis", "--device", "cpu", "--no-mlflow", *(f"--set={k}={v}" for k, v in settings.items()),
        cwd=tmp_path,
    )  # fmt: skip
    (run,) = (tmp_path / "runs").glob("clipvis-*")
    harness("export", run, "--format", "results", "--out", "results.json", cwd=tmp_path)
    mine = json.loads((tmp_path / "results.json").read_text())
    theirs = clipvis_golden.results(name)
    assert len(mine) == len(theirs)
    unmatched = list(theirs)
    for track in mine:  # equal scores have no order: each of ours is one of theirs
        found = next(
            t for t in unmatched
            if t["category_id"] == track["category_id"] and abs(t["score"] - track["score"]) < 2e-4 and same(t, track)
        )  # fmt: skip
        unmatched.remove(found)
    assert not unmatched


def same(one: dict, other: dict) -> bool:
    """Whether all masks of two tracks overlap by at least 0.99."""
    for a, b in zip(one["segmentations"], other["segmentations"], strict=True):
        if (coco.area(a) or coco.area(b)) and coco.iou([a], [b], [False])[0, 0] < 0.99:
            return False
    return True
