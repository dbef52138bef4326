"""Networks compute with one thread wherever they run, or with as many as the user says; nobody else is affected."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import torch
from small_runs import SmallModel, make_run

from harness.engines.threads import VARIABLE, configured_threads, torch_threads
from harness.errors import UserError
from harness.runner import execute
from harness.types import LoadContext, Track, Video, Vocabulary


@pytest.fixture(autouse=True)
def three_threads(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Of PyTorch in this process, as its user has set them; the environment says nothing."""
    monkeypatch.delenv(VARIABLE, raising=False)
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    yield
    torch.set_num_threads(before)


@dataclass
class Counting(SmallModel):
    """Notes PyTorch's threads when it is loaded and at every video."""

    threads: list[int] = field(default_factory=list)
    fails: bool = False

    def load(self, config: Any, context: LoadContext) -> SmallModel:
        self.threads.append(torch.get_num_threads())
        if self.fails:
            raise UserError("weights", "are not there", "get them")
        return super().load(config, context)

    def predict(self, video: Video, vocabulary: Vocabulary) -> Iterator[Track]:
        self.threads.append(torch.get_num_threads())
        return super().predict(video, vocabulary)


@pytest.mark.parametrize(("said", "threads"), [(None, 1), ("", 1), ("1", 1), (" 2 ", 2)])
def test_one_thread_or_what_the_environment_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, said: str | None, threads: int
) -> None:
    if said is not None:
        monkeypatch.setenv(VARIABLE, said)
    model = Counting()
    run = make_run(tmp_path, model)
    assert execute(run).exit_code == 0
    assert model.threads == [threads] * (1 + len(run.videos))
    assert json.loads((run.folder / "environment.json").read_text())["threads"] == threads
    assert (torch_threads(), os.environ.get(VARIABLE)) == (3, said)


def test_threads_are_given_back_where_a_model_does_not_load(tmp_path: Path) -> None:
    model = Counting(fails=True)
    with pytest.raises(UserError):
        execute(make_run(tmp_path, model))
    assert (model.threads, torch_threads(), VARIABLE in os.environ) == ([1], 3, False)


@pytest.mark.parametrize("said", ["0", "-1", "two", "1,2", "1.5", "9" * 9, "²"])
def test_what_is_no_number_of_threads_is_refused(monkeypatch: pytest.MonkeyPatch, said: str) -> None:
    monkeypatch.setenv(VARIABLE, said)
    with pytest.raises(
        UserError, match=rf"^environment variable {VARIABLE}: .* is not a number of threads; set it to 1"
    ):
        configured_threads()


IMPORT_LATE = """
import sys
from harness.engines.model_spec import ModelSpec
class Model:
    def __init__(self, threads):
        self.threads = threads
    def predict(self, video, vocabulary):
        return []
class Late:
    name = "late"
    def load(self, config, context):
        assert "torch" not in sys.modules
        import torch
        return Model(torch.get_num_threads())
class Context:
    seed, device = 0, "cpu"
print(ModelSpec(Late(), None, Context(), int(sys.argv[1])).load().threads)
import torch
print(torch.get_num_threads())
"""


@pytest.mark.parametrize("threads", ["1", "5"])
def test_a_plugin_may_import_pytorch_when_it_is_loaded(tmp_path: Path, threads: str) -> None:
    environment = {**os.environ, "MKL_NUM_THREADS": "2", "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    command = [sys.executable, "-c", IMPORT_LATE, threads]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert (done.stdout.split(), done.stderr) == ([threads, threads], "")
