"""Ctrl-C ends a run with exit code 130 and says what to type to go on."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path

COMMAND = [sys.executable, "-c", "from harness.cli.main import main; main()", "run", "--model", "oracle"]
ARGUMENTS = ["--dataset", "shapes", "--set", "erode_px=-64", "--no-mlflow"]


def test_an_interrupted_run_says_how_to_go_on(tmp_path: Path) -> None:
    with subprocess.Popen([*COMMAND, *ARGUMENTS], cwd=tmp_path, stderr=subprocess.PIPE, text=True) as process:
        deadline = time.monotonic() + 60
        while not list(tmp_path.glob("runs/*/predictions/1.parquet")) and time.monotonic() < deadline:
            time.sleep(0.001)
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=60)
    assert process.returncode == 130
    expected = "harness run --model oracle --dataset shapes --set erode_px=-64 --no-mlflow"
    assert said.splitlines()[-1] == f"harness: interrupted; what is done is kept, resume with: {expected}"
    assert "Traceback" not in said
