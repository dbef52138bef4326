"""Where the time of a video cannot be limited, it is said at the start."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from harness.cli.main import build


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
