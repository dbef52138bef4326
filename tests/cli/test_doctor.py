"""``harness doctor``: which kernel a model would use here, and no password in what is printed."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from harness.cli import doctor
from harness.cli.doctor import examine
from harness.cli.main import build


def test_doctor_tells_which_path_deformable_attention_takes() -> None:
    told = examine()["models"]["clipvis"]["deformable attention"]
    assert told["path"] in ("cuda kernel", "cpu kernel")
    done = CliRunner().invoke(build(), ["doctor", "--json"])
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout)["faults"] == []
    assert "deformable attention" in CliRunner().invoke(build(), ["doctor"]).stdout


def test_doctor_names_the_script_for_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    script = "python scripts/gpu_check.py --out FOLDER"
    assert (Path(__file__).parents[2] / script.split()[1]).is_file()
    for gpus in ([], ["A GPU"]):
        record = {**examine(), "devices": {"torch": "2.11", "cuda": "13.0", "gpus": gpus}}
        monkeypatch.setattr(doctor, "examine", lambda it=record: it)
        assert (script in CliRunner().invoke(build(), ["doctor"]).stdout) == bool(gpus)


def test_doctor_hides_passwords(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "https://user:secret@tracking.invalid")
    assert "secret" not in CliRunner().invoke(build(), ["doctor"]).stdout
