"""Nothing asks a network for anything that the user has not named: commands in a process in which no name is found."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from pathlib import Path

GUARD = """
import socket, sys
log = open(sys.argv.pop(1), "a", buffering=1)
def refuse(*where, **options):
    print(where, file=log)
    raise OSError("no network here")
connect = socket.socket.connect
def local_only(self, address):
    return connect(self, address) if self.family == socket.AF_UNIX else refuse(address)
socket.getaddrinfo = socket.create_connection = refuse
socket.socket.connect = socket.socket.connect_ex = local_only
"""
HARNESS = GUARD + "from harness.cli.main import main\nsys.argv[0] = 'harness'\nmain()\n"


def asked(folder: Path, code: str, *arguments: str) -> str:
    """What a process in ``folder`` asked the network for."""
    log = folder / "asked.txt"
    done = subprocess.run(
        [sys.executable, "-c", code, str(log), *arguments], cwd=folder, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return log.read_text()


def test_what_the_image_is_tried_with_asks_no_network(tmp_path: Path) -> None:
    text = Path(__file__).parents[2].joinpath("Dockerfile").read_text(encoding="utf-8").replace("\\\n", " ")
    (step,) = re.findall(r"^RUN --network=none harness (.*?) &&", text, re.MULTILINE)
    assert asked(tmp_path, HARNESS, *shlex.split(step.replace("/tmp/runs", "runs"))) == ""
    (run,) = (tmp_path / "runs").glob("clipvis-shapes-val-*")
    assert (run / "metrics.json").is_file()


def test_mlflow_and_a_report_ask_no_network(tmp_path: Path) -> None:
    assert asked(tmp_path, HARNESS, *shlex.split("run --model oracle --dataset shapes --limit 2")) == ""
    assert (tmp_path / "runs" / ".mlflow" / "mlflow.db").is_file()
    (run,) = (tmp_path / "runs").glob("oracle-shapes-val-*")
    assert asked(tmp_path, HARNESS, "report", str(run), "--out", "report.html") == ""


def test_the_guard_finds_what_asks(tmp_path: Path) -> None:
    code = (
        "import contextlib, urllib.request\nwith contextlib.suppress(OSError):\n    urllib.request.urlopen(sys.argv[1])"
    )
    assert "example.org" in asked(tmp_path, GUARD + code, "http://example.org")
