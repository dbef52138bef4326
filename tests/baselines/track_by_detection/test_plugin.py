"""Track by detection through ``harness run``, ``predict`` and ``bench``, on shapes and on frames in a folder."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

SMALL = ("--set", "clipvis.short_edge=64", "--set", "score_threshold=0", "--device", "cpu")


def harness(*arguments: object, cwd: Path, code: int = 0) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-P", "-c", "from harness.cli.main import main; main()", *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=cwd, timeout=600)
    assert done.returncode == code, done.stderr
    return done


def run(cwd: Path, checkpoint: Path, *options: object, code: int = 0) -> subprocess.CompletedProcess[str]:
    shapes = ("--dataset", "shapes", "--limit", 2, "--no-mlflow", "--checkpoint", checkpoint)
    return harness("run", "--model", "track-by-detection", *shapes, *SMALL, *options, cwd=cwd, code=code)


def test_segmenter_and_tracker_are_configuration(clipvis: Path, tmp_path: Path) -> None:
    """Runs of different trackers are different runs; each ends with a table."""
    for tracker in ("sort", "embedding"):
        assert "track-by-detection" in run(tmp_path, clipvis, "--set", f"tracker={tracker}").stdout
    folders = sorted((tmp_path / "runs").glob("track-by-detection-shapes-*"))
    records = [json.loads((folder / "config.json").read_text())["config"] for folder in folders]
    assert {record["tracker"] for record in records} == {"sort", "embedding"}
    for folder in folders:
        told = json.loads((folder / "metrics.json").read_text())
        assert told["complete"]
        assert 0 <= told["metrics"]["AP"] <= 1


def test_a_trial_tells_of_the_segmenter(clipvis: Path, tmp_path: Path) -> None:
    (found,) = json.loads(run(tmp_path, clipvis, "--try", "--json").stdout)["tried"]
    needed, rest = found["facts"]["weights"].split(" of ", 1)
    assert rest == f"{needed} tensors loaded (100 %)"
    assert found["facts"]["words"].endswith(", encoded by the text tower of CLIP")


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("tracker=xmem", "'mask_iou', 'sort' or 'embedding'"),
        ("segmenter=detic", "'clipvis', 'ov2seg' or 'detectron2'"),
        ("iou_treshold=0.5", 'did you mean "iou_threshold"?'),
        ("clipvis.short_egde=64", 'did you mean "short_edge"?'),
        ("iou_threshold=1.5", "less than or equal to 1"),
        ("segmenter=ov2seg", "is not a checkpoint of OV2Seg"),
    ],
)
def test_wrong_settings_are_told(setting: str, message: str, clipvis: Path, tmp_path: Path) -> None:
    done = run(tmp_path, clipvis, "--set", setting, code=2)
    assert message in done.stderr
    assert "Traceback" not in done.stderr


def test_words_on_frames(clipvis: Path, tmp_path: Path) -> None:
    import typer

    from harness.cli.predict import predict

    (tmp_path / "frames").mkdir()
    for f in range(3):
        image = np.full((48, 64, 3), 30, np.uint8)
        image[10:30, 5 * f : 5 * f + 20] = (220, 120, 40)
        Image.fromarray(image).save(tmp_path / "frames" / f"{f}.png")
    app = typer.Typer()
    app.command()(predict)
    given = ("--model", "track-by-detection", "--checkpoint", clipvis, "--video", tmp_path / "frames", *SMALL)
    done = CliRunner().invoke(app, [str(a) for a in (*given, "--words", "red box, cat", "--threshold", 0,
                                                     "--out", tmp_path / "seen", "--json")])  # fmt: skip
    assert done.exit_code == 0, done.output
    results = json.loads((tmp_path / "seen" / "results.json").read_text())
    assert results
    assert all(len(track["segmentations"]) == 3 for track in results)
