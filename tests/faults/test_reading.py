"""Commands that read a finished run folder: they refuse what is damaged in it, or do not need it; they never err."""

from __future__ import annotations

import os
import random
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from fault_count import FAULTS
from file_damages import DAMAGES
from oracle_runs import oracle_run
from typer.testing import CliRunner

from harness.cli.main import build
from harness.datasets.shapes import PLUGIN as SHAPES
from harness.errors import UserError
from harness.run_folder.checksums import SUMMED, SUMS_FILE
from harness.run_folder.layout import PER_PAIR

COMMANDS = {
    "table": "RUN --json",
    "compare": "RUN OTHER --json",
    "regress": "RUN --baseline gate.json --json",
    "report": "RUN --videos 0 --out out/report.html",
    "leaderboard": "runs --out out",
    "analyse": "RUN --json",
    "figures": "RUN --format svg --out out",
    "export": "RUN --format results --out out/results.json",
    "status": "RUN --json",
}
READ = {
    "table": {"metrics.json"},
    "compare": {"metrics.json", "config.json"},
    "regress": {"metrics.json", "config.json"},
    "report": {"metrics.json", "config.json", "environment.json", "per_category.csv", "videos.json"},
    "leaderboard": {"metrics.json", "config.json", "environment.json", "per_category.csv"},
    "analyse": {"metrics.json", "config.json", "environment.json", "videos.json"},
    "figures": {"metrics.json", "config.json"},
    "export": {"videos.json"},
    "status": {"videos.json"},
}
"""Which of the files with checksums a command reads."""


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a run in ``runs``, another one in ``others``, and a baseline."""
    folder, dataset = tmp_path_factory.mktemp("made"), SHAPES.open(Path(), "val")
    for name, dial in (("runs", 0.0), ("others", 0.5)):
        oracle_run(folder / name, dataset, limit=2, wrong_label=dial)
    said(folder, "regress", "RUN --baseline gate.json --update")
    return folder


def said(folder: Path, command: str, arguments: str) -> dict[str, bytes] | str:
    """What a command says and writes; or the line with which it refuses."""
    (run,), (other,) = (folder / "runs").iterdir(), (folder / "others").iterdir()
    shutil.rmtree(folder / "out", ignore_errors=True)
    (folder / "out").mkdir()
    named = arguments.replace("RUN", str(run)).replace("OTHER", str(other)).split()
    with pytest.MonkeyPatch.context() as patched:
        patched.chdir(folder)
        result = CliRunner().invoke(build(), [command, *named])
    if isinstance(result.exception, UserError):
        return str(result.exception)
    assert result.exit_code == 0 or command == "status", result.output
    written = {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.glob("out/**/*")) if p.is_file()}
    return {"stdout": result.stdout.encode(), **written}


@contextmanager
def damaged(path: Path, rng: random.Random) -> Iterator[None]:
    """Damage a file for a while."""
    intact = path.read_bytes()
    path.write_bytes(rng.choice(DAMAGES)(intact, rng))
    try:
        yield
    finally:
        path.write_bytes(intact)


@pytest.mark.parametrize("command", COMMANDS)
def test_damage_is_refused_where_it_is_read_and_changes_nothing_elsewhere(made: Path, command: str) -> None:
    rng, names = random.Random(command), (*(n for n in SUMMED if n not in (PER_PAIR, "weights.json")), SUMS_FILE)
    (run,) = (made / "runs").iterdir()
    whole = said(made, command, COMMANDS[command])
    assert isinstance(whole, dict)
    for number in range(len(names) * max(FAULTS // 4, 1)):
        name = names[number % len(names)]
        with damaged(run / name, rng):
            found = said(made, command, COMMANDS[command])
        if isinstance(found, str):
            assert name in {*READ[command], SUMS_FILE}
            assert "is damaged: " in found
            assert "\n" not in found
        else:
            assert name not in READ[command]
            if command == "figures":  # leaves out the drawings that need more than is read whole, and says why
                assert all(found[key] == whole[key] for key in found if key != "stdout")
                assert set(whole) - set(found) <= {"out/errors.svg", "out/frames.svg"}
                continue
            assert found == whole or command == "status"  # which says when it was asked, and what is damaged


@pytest.mark.parametrize("command", COMMANDS)
def test_what_is_no_file_is_refused_at_once(made: Path, command: str) -> None:
    (run,) = (made / "runs").iterdir()
    for number, name in enumerate(sorted(READ[command])):
        intact = (run / name).read_bytes()
        (run / name).unlink()
        if number % 2:
            (run / name).symlink_to("/dev/zero")
        else:
            os.mkfifo(run / name)
        try:
            said_of_it = said(made, command, COMMANDS[command])
        finally:
            (run / name).unlink()
            (run / name).write_bytes(intact)
        what = "a device" if number % 2 else "a named pipe"
        assert f"is {what}, not a regular file; " in str(said_of_it)


@pytest.mark.parametrize(
    ("command", "arguments"),
    [
        *((name, COMMANDS[name]) for name in ("report", "analyse", "export")),
        ("eval", "--dataset shapes --predictions RUN"),
    ],
)
def test_a_damaged_shard_is_refused(made: Path, command: str, arguments: str) -> None:
    (run,) = (made / "runs").iterdir()
    with damaged(min(run.glob("predictions/*")), random.Random(7)):
        assert "; repeat its `harness run`, which computes this video again" in str(said(made, command, arguments))


def test_the_command_says_it_in_one_line(made: Path) -> None:
    (run,) = (made / "runs").iterdir()
    start = [sys.executable, "-c", "from harness.cli.main import main; main()"]
    with damaged(run / "metrics.json", random.Random(8)):
        done = subprocess.run([*start, "table", str(run)], cwd=made, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (2, "")
    (line,) = done.stderr.splitlines()
    assert line.endswith("does not match the checksum of metrics.json in SHA256SUMS; repeat its `harness run`")
