"""What scoring compiles is compiled beside the first run.

Tests of `harness/compile_ahead.py` and `harness/compiled.py`.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from harness import compile_ahead
from harness.compile_ahead import compiling_ahead, is_compiled
from harness.rle import MaskTable, read_only

SAME_TYPES = """
from harness import compile_ahead, rle
from harness.api import load_dataset, run
from harness.scoring.match import score_categories
from harness.scoring.overlap import _overlap_pairs

functions = (rle.areas, _overlap_pairs, score_categories)
compile_ahead.compile_scoring()
before = [len(each.signatures) for each in functions]
run("oracle", load_dataset("shapes"), limit=2)
print(before, [len(each.signatures) for each in functions])
"""


def test_a_run_compiles_nothing_else(tmp_path: Path) -> None:
    """One version of each function serves the truth, the stored predictions and the track that is compiled with."""
    done = subprocess.run(
        [sys.executable, "-c", SAME_TYPES], cwd=tmp_path, capture_output=True, text=True, check=False,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
    )  # fmt: skip
    assert done.stdout.splitlines()[-1:] == ["[1, 1, 1] [1, 1, 1]"], done.stderr


@pytest.fixture
def uncompiled(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compile_ahead, "is_compiled", lambda: False)
    monkeypatch.setattr(compile_ahead, "usable_cores", lambda: 2)


def program(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    monkeypatch.setattr(compile_ahead, "_PROGRAM", text)


@pytest.mark.usefixtures("uncompiled")
def test_the_process_is_waited_for(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    program(monkeypatch, f"open({str(tmp_path / 'done')!r}, 'w').close()")
    with compiling_ahead(True) as wait:
        wait()
        assert (tmp_path / "done").exists()


@pytest.mark.usefixtures("uncompiled")
def test_a_run_that_ends_early_ends_it(monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[subprocess.Popen[Any]] = []

    class Noted(subprocess.Popen[Any]):
        def __init__(self, *arguments: Any, **options: Any) -> None:
            super().__init__(*arguments, **options)
            started.append(self)

    monkeypatch.setattr(subprocess, "Popen", Noted)
    program(monkeypatch, "import time; time.sleep(600)")
    with pytest.raises(KeyboardInterrupt), compiling_ahead(True):
        raise KeyboardInterrupt
    assert started[0].returncode


@pytest.mark.usefixtures("uncompiled")
def test_a_process_that_fails_or_hangs_costs_nothing_else(monkeypatch: pytest.MonkeyPatch) -> None:
    program(monkeypatch, "raise SystemExit(3)")
    with compiling_ahead(True) as wait:
        wait()
    monkeypatch.setattr(compile_ahead, "COMPILE_SECONDS", 0.01)
    program(monkeypatch, "import time; time.sleep(600)")
    with compiling_ahead(True) as wait:
        wait()
    monkeypatch.setattr(sys, "executable", "/nowhere/python")
    with compiling_ahead(True) as wait:
        wait()


def test_no_process_is_started_where_it_has_nothing_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*arguments: Any, **options: Any) -> None:
        raise AssertionError("a process was started")

    monkeypatch.setattr(subprocess, "Popen", refuse)
    for compiled, cores, is_scored in ((True, 2, True), (False, 1, True), (False, 2, False)):
        monkeypatch.setattr(compile_ahead, "is_compiled", lambda it=compiled: it)
        monkeypatch.setattr(compile_ahead, "usable_cores", lambda it=cores: it)
        with compiling_ahead(is_scored) as wait:
            wait()


def test_the_cache_tells_what_is_compiled(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    kept = SimpleNamespace(__name__="score_categories", stats=SimpleNamespace(cache_path=str(tmp_path)))
    monkeypatch.setattr(compile_ahead, "score_categories", kept)
    assert not is_compiled()
    (tmp_path / "match.score_categories-80.py311.nbi").touch()
    assert is_compiled()
    kept.stats.cache_path = None  # nothing can be kept
    assert is_compiled()


def test_text_of_masks_has_one_type() -> None:
    """Kernels are compiled for each type, and text that can be written is another type."""
    writable = np.zeros(4, np.uint8)
    assert not read_only(writable).flags.writeable
    assert writable.flags.writeable
    assert np.shares_memory(read_only(writable), writable)
    none, few = np.zeros(1, np.int64), np.zeros(1, np.int32)
    table = MaskTable(writable, none, none, np.zeros(1, np.int8), few, few, none, few)
    assert not table.arrays()[0].flags.writeable
