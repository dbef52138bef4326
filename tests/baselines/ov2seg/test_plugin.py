"""The golden clip through ``harness run`` and ``harness export``: the official tracks; what a run records; refusals.

Tests of `models/backbones/resnet.py`.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import ov2seg_golden
import pytest
import torch
from PIL import Image
from pycocotools import mask as coco
from torch import Tensor

NAMES = [f"{i:05d}.png" for i in range(6)]


def harness(*arguments: object, cwd: Path, code: int = 0) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-P", "-c", "from harness.cli.main import main; main()", *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=cwd, timeout=600)
    assert done.returncode == code, done.stderr
    return done


@pytest.fixture
def golden(tmp_path: Path) -> dict[str, Tensor]:
    """The golden clip as a dataset of the user's own, with its classifier as a ``.npy`` file, in ``tmp_path``."""
    golden = ov2seg_golden.tensors("e2e")
    (tmp_path / "frames").mkdir()
    for name, frame in zip(NAMES, golden["frames"].numpy(), strict=True):
        Image.fromarray(frame).save(tmp_path / "frames" / name)
    video = {"id": 1, "height": 54, "width": 80, "length": 6, "file_names": NAMES}
    categories = [{"id": i, "name": f"class {i}", "partition": 0} for i in range(1, 12)]
    (tmp_path / "gt.json").write_text(json.dumps({"videos": [video], "categories": categories, "annotations": None}))
    np.save(tmp_path / "text.npy", golden["text_raw"].numpy())
    return golden


def run(checkpoint: Path | str, cwd: Path, *settings: str, code: int = 0) -> subprocess.CompletedProcess[str]:
    return harness(
        "run", "--model", "ov2seg", "--checkpoint", checkpoint, "--annotations", "gt.json", "--frames", "frames",
        "--protocol", "ytvis", "--device", "cpu", "--no-mlflow", *(f"--set={s}" for s in settings), cwd=cwd, code=code,
    )  # fmt: skip


def test_the_official_tracks(golden: dict[str, Tensor], tmp_path: Path) -> None:
    state = ov2seg_golden.released_network().state_dict()
    trained_with = {"sem_seg_head.predictor.class_embed.zs_weight": torch.zeros(512, 1204)}
    torch.save({"model": state | trained_with}, tmp_path / "r50.pth")
    run("r50.pth", tmp_path, "short_edge=42", "text_classifier=text.npy")
    (folder,) = (tmp_path / "runs").glob("ov2seg-*")
    harness("export", folder, "--format", "results", "--out", "results.json", cwd=tmp_path)
    mine = json.loads((tmp_path / "results.json").read_text())
    theirs = ov2seg_golden.results()
    mine.sort(key=lambda track: -track["score"])
    assert [t["category_id"] for t in mine] == [t["category_id"] for t in theirs]
    assert [t["score"] for t in mine] == pytest.approx([t["score"] for t in theirs], abs=2e-5)
    for track, expected in zip(mine, theirs, strict=True):
        for a, b in zip(track["segmentations"], expected["segmentations"], strict=True):
            assert (not coco.area(a) and not coco.area(b)) or coco.iou([a], [b], [False])[0, 0] >= 0.99

    record = json.loads((folder / "config.json").read_text())["config"]
    assert record["text_classifier"] == "text.npy"
    assert list(record["text_classifier_sha256"]) == ["text.npy"]
    assert "text classifier of 11 categories: read from text.npy" in (folder / "run.log").read_text()


@pytest.mark.parametrize("kind", ["resnet"], indirect=True)
@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("text_classifier=absent.npy", "absent.npy: does not exist"),
        ("text_classifier=other.npy", "other.npy: has 5 rows, for ids 1 to 5, and the vocabulary has 11 categories"),
        ("text_classifier=.", "none of the released files is for"),
        ("text_clasifier=text.npy", 'did you mean "text_classifier"?'),
        ("clip_model=none", '"none" is not an open_clip model'),
        ("clip_pretrained=absent.pt", "cannot be loaded"),
    ],
)
def test_a_classifier_that_does_not_fit_ends_the_run_before_it_starts(
    setting: str, message: str, golden: dict[str, Tensor], saved: Path, tmp_path: Path
) -> None:
    np.save(tmp_path / "other.npy", np.ones((5, 16), np.float32))
    done = run(saved, tmp_path, setting, code=2)
    assert message in done.stderr
    assert "Traceback" not in done.stderr
    assert not list((tmp_path / "runs").glob("ov2seg-*/predictions/*"))
