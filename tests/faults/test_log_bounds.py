"""Logs and failure records have bounds, whatever models, commands and libraries say.

Tests of `harness/run_folder/log.py`.
"""

from __future__ import annotations

import json
import logging
import sys
import textwrap
import warnings
from functools import partial
from pathlib import Path

import pytest
from small_runs import SmallModel, make_run
from worker_runs import faulty_run

from harness.baselines.external.plugin import PLUGIN as EXTERNAL
from harness.engines import processes
from harness.errors import shortened
from harness.plugin_code import MOST_CHARACTERS, MOST_DETAILS, describe_error
from harness.run_folder import log as logs
from harness.run_folder.log import LINE_CHARACTERS, SentLog, logged_to
from harness.runner import execute


def test_a_text_is_shortened_in_its_middle() -> None:
    assert shortened("abcdefgh", 8) == "abcdefgh"
    assert shortened("abcdefghij", 8) == "ab ... (2 characters left out) ... efghij"


def test_one_message_of_a_model_is_bounded_everywhere(tmp_path: Path) -> None:
    def rage(video_id: int) -> None:
        if video_id == 2:
            logging.getLogger("harness.model").warning("loud %s", "x" * (8 << 20))
            raise ValueError("y" * (50 << 20))

    run = make_run(tmp_path, SmallModel(rage))
    outcome = execute(run)
    assert outcome.exit_code == 1
    (failure,) = json.loads((run.folder / "failures.json").read_text())["failed"]
    assert failure["error"].startswith("ValueError: yyyy")
    assert "characters left out) ..." in failure["error"]
    assert len(failure["error"]) < MOST_CHARACTERS + 100
    assert failure["traceback"].startswith("Traceback (most recent call last)")
    assert len(failure["traceback"]) < MOST_DETAILS + 100
    sizes = {path.name: path.stat().st_size for path in run.folder.iterdir() if path.is_file()}
    assert max(sizes.values()) < 1 << 17, sizes
    assert sum(map(len, outcome.messages)) < 1 << 14


def test_messages_of_a_worker_are_bounded(tmp_path: Path) -> None:
    record = logging.LogRecord("harness", logging.INFO, "", 0, "a %s", ("x" * (1 << 20),), None)
    prepared = SentLog(None).prepare(record)  # type: ignore[arg-type]
    assert prepared.msg.startswith("a xxx")
    assert len(prepared.msg) < LINE_CHARACTERS + 100
    run = faulty_run(tmp_path, 2, raises={1: "ValueError"})
    assert execute(run, engine=partial(processes.process_pool, devices=("cpu", "cpu"))).exit_code == 1


def test_an_error_whose_text_is_huge_is_one_short_line() -> None:
    line = describe_error(RuntimeError("a\nb" * (1 << 20)))
    assert len(line) < MOST_CHARACTERS + 200
    assert "\n" not in line


def test_tracebacks_are_bounded_together(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("harness.runner.MOST_TRACEBACKS", 5000)

    def fail(video_id: int) -> None:
        raise ValueError("z" * 1500)

    run = make_run(tmp_path, SmallModel(fail))
    execute(run)
    failed = json.loads((run.folder / "failures.json").read_text())["failed"]
    assert len(failed) == 4
    assert [bool(one["traceback"]) for one in failed] == [True, False, False, False] or sum(
        len(one["traceback"]) for one in failed
    ) <= 5000


def test_the_log_of_a_session_is_bounded_and_warnings_have_room_of_their_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logs, "SESSION_BYTES", 1 << 20)
    path, log = tmp_path / "run.log", logging.getLogger("harness.test")
    with logged_to(path):
        for number in range(30_000):
            log.info("line %s of a model that talks without end", number)
        log.warning("a late warning")
        with warnings.catch_warnings():
            warnings.simplefilter("always")
            warnings.warn("of Python", stacklevel=1)
    text = path.read_text()
    assert (1 << 20) - 200 < len(text) < (1 << 20) + 1000
    assert text.count("further lines are left out") == 1
    assert "a late warning" in text
    assert "of Python" in text


def test_the_log_of_earlier_sessions_is_cut(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logs, "SESSION_BYTES", 10_000)
    monkeypatch.setattr(logs, "KEPT_BYTES", 1000)
    path = tmp_path / "run.log"
    path.write_text("".join(f"earlier line {number}\n" for number in range(1000)))
    with logged_to(path):
        logging.getLogger("harness.test").info("now")
    lines = path.read_text().splitlines()
    assert path.stat().st_size < 1200
    assert lines[0].startswith("earlier line ")
    assert lines[-2] == "earlier line 999"
    assert lines[-1].endswith("now")
    with logged_to(path):
        logging.getLogger("harness.test").info("again")
    assert len(path.read_text().splitlines()) == len(lines) + 1  # a short log is kept whole


def test_the_output_of_an_external_command_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logs, "SESSION_BYTES", 1 << 18)
    program = tmp_path / "loud.py"
    program.write_text(
        textwrap.dedent(
            """
            import json, sys
            for number in range(20_000):
                print("all that it has to say", number)
            json.dump([], open(json.load(open(sys.argv[1]))["results"], "w"))
            """
        )
    )
    run = make_run(tmp_path / "runs", EXTERNAL, config=EXTERNAL.Config(command=(sys.executable, str(program))))
    assert execute(run).exit_code == 0
    assert (run.folder / "run.log").stat().st_size < (1 << 18) + 2000


def test_a_log_that_is_a_pipe_is_refused(tmp_path: Path) -> None:
    import os

    from harness.errors import UserError

    os.mkfifo(tmp_path / "run.log")
    with pytest.raises(UserError, match="is a named pipe"), logged_to(tmp_path / "run.log"):
        pass
