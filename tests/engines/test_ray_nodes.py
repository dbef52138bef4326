"""The Ray engine on a cluster of several nodes that loses one of them in the middle of a run."""

from __future__ import annotations

import json
import os
import secrets
import subprocess
import sys
from pathlib import Path

from worker_runs import faulty_run, needs_ray, results

from harness.runner import execute


@needs_ray
def test_a_node_that_is_lost_costs_time_only(tmp_path: Path) -> None:
    tests = Path(__file__).parents[1] / "support"
    given = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    given |= {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32), "RAY_USAGE_STATS_ENABLED": "0"}
    given["RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"] = "0"  # all listen to the loopback address
    given["PYTHONPATH"] = os.pathsep.join(filter(None, [str(tests), given.get("PYTHONPATH", "")]))
    program = [sys.executable, str(tests / "lost_node.py"), str(tmp_path / "far")]
    done = subprocess.run(program, cwd=tmp_path, env=given, capture_output=True, text=True, check=False, timeout=240)
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout.splitlines()[-1])
    assert told["exit_code"] == 0
    assert told["kinds"].count("done") == 8
    far, alone = (faulty_run(tmp_path / name, 8, seconds=0.2) for name in ("far", "alone"))
    execute(alone)
    assert results(far) == results(alone)
    assert " was lost: " in (far.folder / "run.log").read_text()
