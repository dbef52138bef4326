"""A run that is killed again and again ends with the same bytes as one that was left alone."""

from __future__ import annotations

import json
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

from harness.datasets.shapes_scenes import VIDEOS

KILLS = 8
# Masks grown by many steps take a while, so that most kills meet a run in the middle of its videos.
COMMAND = [
    *(sys.executable, "-c", "from harness.cli.main import main; main()"),
    *("run", "--model", "oracle", "--dataset", "shapes", "--set", "erode_px=-24", "--set", "score_noise=1"),
    *("--no-mlflow", "--json", "--runs-dir", "runs"),
]


def shards(cwd: Path) -> list[Path]:
    return list(cwd.glob("runs/*/predictions/*.parquet"))


def run(cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(COMMAND, cwd=cwd, capture_output=True, text=True, check=False)


def killed(cwd: Path, chance: random.Random) -> bool:
    """Start the run and kill it some videos or some time later; whether it was still running."""
    wanted = len(shards(cwd)) + chance.choice((0, 1, 3, 6, 9))
    with subprocess.Popen(COMMAND, cwd=cwd, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        deadline = time.monotonic() + 60
        while process.poll() is None and len(shards(cwd)) < wanted and time.monotonic() < deadline:
            time.sleep(0.0005)
        time.sleep(chance.uniform(0, 0.01) if wanted else chance.uniform(0, 1))
        process.kill()
    return process.returncode == -signal.SIGKILL


def test_a_run_killed_at_random_moments_ends_with_the_same_bytes(tmp_path: Path) -> None:
    quiet, stormy = tmp_path / "quiet", tmp_path / "stormy"
    quiet.mkdir()
    stormy.mkdir()
    whole = run(quiet)
    assert whole.returncode == 0, whole.stderr
    chance = random.Random(20)
    met = [killed(stormy, chance) for _ in range(KILLS)]
    assert sum(met) >= KILLS // 2
    finished = run(stormy)
    assert finished.returncode == 0, finished.stderr
    assert finished.stdout == whole.stdout
    folder = Path(json.loads(whole.stdout)["runs"][0]["folder"])
    for name in ("metrics.json", "per_category.csv", "table.md", "config.json"):
        assert (stormy / folder / name).read_bytes() == (quiet / folder / name).read_bytes(), name
    written = {p.name: p.read_bytes() for p in shards(stormy)}
    assert written == {p.name: p.read_bytes() for p in shards(quiet)}
    assert len(written) == VIDEOS["val"]
    assert not list(stormy.glob("runs/*/.*.tmp")) + list(stormy.glob("runs/*/predictions/.*"))
