"""Several processes that train one model, started by torchrun as a user would."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from harness.errors import UserError
from harness.training.processes import joined

TESTS = Path(__file__).parents[1] / "support"
SCRIPT = """
import sys
from pathlib import Path
import torch
from toy_training import CONFIG, Regression, batches
from harness.training.loop import Training, train
from harness.training.processes import joined

class Exact(Regression):
    noise = 0.0

folder = Path(sys.argv[1])
config = CONFIG.model_copy(update={"iterations": 6, "checkpoint_every": 3})
with joined("cpu") as processes:
    def share(first):
        for whole in batches(first):
            yield [whole[processes.rank]] if processes.count == 2 else whole
    torch.manual_seed(7)
    made = Training(Exact(), share, config, folder, {"model": "regression"})
    train(made, processes, on_step=lambda step: print("rank", processes.rank, step.step))
"""


def run(folder: Path, processes: int) -> str:
    script = folder.with_suffix(".py")
    script.write_text(SCRIPT)
    start = [sys.executable, "-P", "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(processes)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    environment["PYTHONPATH"] = os.pathsep.join([str(TESTS), *filter(None, [os.environ.get("PYTHONPATH")])])
    done = subprocess.run(
        [*start, str(script), str(folder)], capture_output=True, text=True, env=environment, timeout=240
    )
    assert done.returncode == 0, done.stderr
    assert "Warning" not in done.stderr
    return done.stdout


def test_two_processes_learn_what_one_does(tmp_path: Path) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    run(one, 1)
    told = run(two, 2)
    assert "rank 0 6" in told
    assert "rank 1" not in told
    expected, found = (load_file(folder / "model.safetensors") for folder in (one, two))
    assert all(torch.allclose(found[name], expected[name], atol=1e-6) for name in expected)


def test_half_an_environment_of_torchrun_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.delenv("RANK", raising=False)
    with pytest.raises(UserError, match="start several processes with torchrun"), joined("cpu"):
        pass
