"""The example of docs/external-models.md wraps a research repository, here one of a few lines, and is run."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

EXAMPLE = Path(__file__).parents[3] / "examples" / "wrap_research_code.py"
THEIR_CODE = """
import numpy as np

COLOURS = {"red": 0, "green": 1, "blue": 2}

def load_model(checkpoint, device):
    assert device == "cpu" and open(checkpoint).read() == "weights"
    return Thresholds()

class Thresholds:
    def segment(self, frames, names):
        video = np.stack(frames).astype(int)
        for label, name in enumerate(names):
            channel = COLOURS.get(name.split()[0])
            if channel is not None:
                others = np.delete(video, channel, axis=3).max(axis=3)
                yield {"masks": video[..., channel] > others + 80, "label": label, "score": 0.5}
"""


def test_it_runs_on_a_dataset(tmp_path: Path) -> None:
    (tmp_path / "their_code.py").write_text(THEIR_CODE)
    (tmp_path / "weights.pt").write_text("weights")
    config = {"command": [sys.executable, str(EXAMPLE)], "working_directory": str(tmp_path), "chunk": 2}
    config["environment"] = {"PYTHONPATH": str(tmp_path)}
    (tmp_path / "external.yaml").write_text(json.dumps(config))
    arguments = [
        *("run", "--model", "external", "--config", "external.yaml", "--checkpoint", "weights.pt", "--device", "cpu"),
        *("--dataset", "shapes", "--limit", "3", "--no-mlflow", "--json"),
    ]
    start = [sys.executable, "-c", "from harness.cli.main import main; main()"]
    done = subprocess.run([*start, *arguments], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    (record,) = json.loads(done.stdout)["runs"]
    assert record["complete"] is True
    assert record["counts"]["tracks"] > 0
    assert record["metrics"]["AP"] > 0
    log = (tmp_path / record["folder"] / "run.log").read_text()
    assert "| video 2 of 2: 002\n" in log
