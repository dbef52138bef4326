"""Peak memory of a long video, measured by the operating system."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

BOUND = 20 << 20
"""The runs of all masks, kept for every query, take 9 MB: the weights are random and the masks speckled. On top of them
full-size masks of 900 more frames would take 170 MB, the frames themselves 52 MB, mask logits at quarter resolution
14 MB."""

ALLOCATOR = {"MALLOC_ARENA_MAX": "1", "MALLOC_MMAP_THRESHOLD_": "131072"}
"""Large blocks go back to the system when they are freed, so that the peak is of what was alive at once."""


def test_ten_times_the_frames_take_little_more_memory(tmp_path: Path) -> None:
    environment = {**os.environ, **ALLOCATOR, "PYTHONPATH": os.pathsep.join(sys.path), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "video_peak_memory", "clipvis", str(tmp_path), "100,10,40", "1000,10,40"]
    done = subprocess.run(command, env=environment, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    short, long = (found["peak"] for found in json.loads(done.stdout.splitlines()[-1]))
    assert long - short <= BOUND, f"{short / 2**20:.0f} MB grew to {long / 2**20:.0f} MB"
