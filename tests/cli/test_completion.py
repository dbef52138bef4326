"""Tab completion: as bash, zsh and fish ask for it, and what is offered."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from harness.cli import completion

ASK = {
    "bash": {"_HARNESS_COMPLETE": "complete_bash"},
    "zsh": {"_HARNESS_COMPLETE": "complete_zsh"},
    "fish": {"_HARNESS_COMPLETE": "complete_fish", "_TYPER_COMPLETE_FISH_ACTION": "get-args"},
}


def asked(shell: str, words: str, cwd: Path) -> str:
    line = {"COMP_WORDS": words, "COMP_CWORD": str(len(words.split(" ")) - 1), "_TYPER_COMPLETE_ARGS": words}
    code = "import sys; sys.argv[0] = 'harness'; from harness.cli.main import main; main()"
    done = subprocess.run([sys.executable, "-P", "-c", code], env={**os.environ, **ASK[shell], **line}, cwd=cwd,
                          capture_output=True, text=True, timeout=60, check=True)  # fmt: skip
    return done.stdout


@pytest.mark.parametrize("shell", ASK)
def test_a_shell_gets_names_of_models(shell: str, tmp_path: Path) -> None:
    text = asked(shell, "harness run --model cl", tmp_path)
    assert "clipvis" in text
    assert "ov2seg" not in text


def test_bash_gets_run_folders(tmp_path: Path) -> None:
    (tmp_path / "runs/clipvis-1").mkdir(parents=True)
    (tmp_path / "runs/clipvis-1/config.json").touch()
    assert asked("bash", "harness report ru", tmp_path).split() == ["runs/clipvis-1"]


def test_the_last_of_several_names_completes() -> None:
    assert completion.models("clipvis,ov") == ["clipvis,ov2seg"]
    assert "lvvis" in completion.datasets("")
    assert completion.protocols("lvvis,hota,lvvis-f") == ["lvvis,hota,lvvis-fixed", "lvvis,hota,lvvis-fixed-corrected"]
    assert completion.protocols("hota,hot") == []


def test_run_folders_and_the_folders_on_the_way(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("runs/a-1", "runs/a-2", "runs/b/c-3", "runs/.mlflow", "runs/a\x1b[1m"):
        (tmp_path / name).mkdir(parents=True)
    for name in ("runs/a-1/config.json", "runs/a-2/metrics.json", "runs/b/c-3/config.json", "file"):
        (tmp_path / name).touch()
    monkeypatch.chdir(tmp_path)
    assert completion.runs("runs/") == ["runs/a-1", "runs/a-2", "runs/b/"]
    assert completion.runs("r") == ["runs/a-1", "runs/a-2", "runs/b/"]
    assert completion.runs("runs/b") == ["runs/b/c-3"]
    assert completion.runs(f"{tmp_path}/runs/a") == [f"{tmp_path}/runs/a-1", f"{tmp_path}/runs/a-2"]
    assert completion.runs("nothing/here") == []
