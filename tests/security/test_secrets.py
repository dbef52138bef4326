"""Secrets of the environment and of addresses are in nothing that a run writes, logs, prints or reports."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from harness.baselines.external.process import run_command
from harness.cli.report import report
from harness.cli.run import run

PASSWORD, KEY, VARIABLE = "pl4nted-password", "pl4nted-key", "pl4nted-variable"


def invoke(*arguments: str | Path) -> str:
    app = typer.Typer()
    app.command("run")(run)
    app.command("report")(report)
    done = CliRunner().invoke(app, [str(a) for a in arguments])
    assert done.exit_code == 0, done.output
    return done.output


@pytest.mark.parametrize("uri", [f"http://me:{PASSWORD}@127.0.0.1:9/?key={KEY}", None], ids=["server", "embedded"])
def test_nothing_written_or_printed_holds_a_secret(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], uri: str | None
) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    for name in ("WANDB_API_KEY", "HARNESS_TEST_TOKEN", "AWS_SECRET_ACCESS_KEY", "MLFLOW_TRACKING_TOKEN"):
        monkeypatch.setenv(name, VARIABLE)
    if uri is not None:
        monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    runs = tmp_path / "runs"
    said = invoke("run", "--model", "oracle", "--dataset", "shapes", "--limit", "1", "--runs-dir", runs, "--json")
    (folder,) = (p.parent for p in runs.glob("*/metrics.json"))
    said += invoke("report", folder, "--out", tmp_path / "report.html")
    assert (uri is None) == (runs / ".mlflow" / "mlflow.db").exists()
    written = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert {"run.log", "environment.json", "metrics.json", "report.html"} <= {path.name for path in written}
    for secret in (PASSWORD, KEY, VARIABLE):
        assert secret not in said + "".join(capfd.readouterr())
        assert [path for path in written if secret.encode() in path.read_bytes()] == []


def test_arguments_of_a_command_meet_no_shell(tmp_path: Path) -> None:
    hostile = ["$HOME", "; touch made", "`touch made`", "$(touch made)", "* ?", "a\nb", "| cat", "> made", "--flag='x'"]
    lines: list[str] = []
    program = "import json, sys; print(json.dumps(sys.argv[1:]))"
    ending = run_command([sys.executable, "-c", program, *hostile], tmp_path, os.environ, None, lines.append)
    assert ending.code == 0
    assert json.loads(lines[0]) == hostile
    assert list(tmp_path.iterdir()) == []
