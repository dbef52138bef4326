"""The time limit of a video follows from the run; where it cannot be kept, the start of the run says so."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from small_runs import make_video
from typer.testing import CliRunner

from harness.cli.main import build
from harness.engines.video_timeout import FIRST_SECONDS, LEAST_SECONDS, TIMES, VideoTimeout


def test_the_limit_of_a_video_is_learnt_from_the_run() -> None:
    limits, short, long = VideoTimeout(), make_video(1), replace(make_video(2), height=40_000)
    assert limits.limit(short) == FIRST_SECONDS
    limits.learn(short, 0.01)
    assert limits.limit(short) == LEAST_SECONDS
    limits.learn(short, 100.0)
    limits.learn(short, 1.0)
    assert limits.limit(short) == pytest.approx(TIMES * 100)
    assert limits.limit(long) == pytest.approx(TIMES * 100 * long.height / short.height)
    assert VideoTimeout(3.0).limit(long) == 3.0


@pytest.mark.parametrize("asked", [False, True])
def test_one_process_says_that_it_cannot_keep_a_limit(tmp_path: Path, asked: bool) -> None:
    shared = ["run", "--model", "oracle", "--dataset", "shapes", "--limit", "1", "--device", "cpu", "--no-mlflow"]
    done = CliRunner().invoke(
        build(), [*shared, "--runs-dir", str(tmp_path), *(["--video-timeout", "5"] if asked else [])]
    )
    assert done.exit_code == 0
    assert ("--video-timeout has no effect: videos have no time limit" in done.stderr) == asked
    (log,) = tmp_path.glob("oracle-*/run.log")
    assert "videos have no time limit, because the model runs in the command's own process" in log.read_text()


def test_a_limit_of_less_than_a_second_is_refused() -> None:
    done = CliRunner().invoke(build(), ["run", "--model", "oracle", "--dataset", "shapes", "--video-timeout", "0"])
    assert done.exit_code == 2
    assert "--video-timeout" in done.stderr
