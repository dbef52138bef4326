"""``harness bench`` with CLIP-VIS: stages, operations, sweeps, and what is refused."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner, Result

from harness.cli.bench import bench
from harness.cli.table import table
from harness.datasets.shapes import PLUGIN as SHAPES
from harness.errors import UserError
from harness.models.clipvis.plugin import PLUGIN as CLIPVIS
from harness.runner import Run, execute


def invoke(command: Callable[..., None], *arguments: Any) -> Result:
    app = typer.Typer()
    app.command()(command)
    return CliRunner().invoke(app, [str(a) for a in arguments])


def test_bench_times_every_stage(saved: Path) -> None:
    done = invoke(bench, "--model", "clipvis", "--checkpoint", saved, "--size", "48x64", "--frames", 4, "--words", 3,
                  "--repeats", 1, "--device", "cpu", "--set", "short_edge=64", "--set", "detections_per_video=3",
                  "--json")  # fmt: skip
    assert done.exit_code == 0, done.output
    record = json.loads(done.stdout.splitlines()[-1])
    stages = {
        "decode",
        "backbone",
        "pixel_decoder",
        "decoder",
        "matching",
        "classification",
        "postprocessing",
        "encoding",
    }
    assert stages <= set(record["stage_ms_per_frame"])
    assert record["frames_per_second"] > 0
    assert record["threads"] >= 1
    assert record["flops_per_frame"] > 1e6
    assert sum(record["stage_ms_per_frame"].values()) <= 1000 * record["stage_pass_seconds"] / 4 * 1.05


def test_bench_counts_the_same_flops_in_half_precision_and_without_cached_words(
    saved: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))  # the first bench embeds the words, the second reads them
    given = ("--model", "clipvis", "--checkpoint", saved, "--size", "48x64", "--frames", 1, "--repeats", 1)
    told = [
        invoke(bench, *given, "--device", "cpu", "--set", "short_edge=64", "--precision", precision, "--json")
        for precision in ("fp32", "bf16")
    ]
    assert [done.exit_code for done in told] == [0, 0], told[1].output
    full, half = (json.loads(done.stdout.splitlines()[-1])["flops_per_frame"] for done in told)
    assert half == full


@pytest.mark.parametrize("size", ["480", "axb", "0x10", "99999x99999"])
def test_sizes_that_are_none_are_refused(size: str) -> None:
    done = invoke(bench, "--model", "clipvis", "--size", size)
    assert isinstance(done.exception, UserError)
    assert size in str(done.exception)


SMALL = ("--size", "48x64", "--frames", 2, "--repeats", 1, "--device", "cpu")


def test_a_sweep_is_kept_with_its_run_and_stands_in_tables(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = Run(CLIPVIS, CLIPVIS.Config(), SHAPES.open(Path(), "val"), tmp_path, limit=1)
    assert execute(run).exit_code == 0
    file = tmp_path / "cost.svg"
    done = invoke(
        bench, *SMALL, "--run", run.folder, "--sweep", "words=1,54", "objects=0,3", "--figure", file, "--json"
    )
    assert done.exit_code == 0, done.output
    kept = json.loads((run.folder / "bench.json").read_text())
    assert json.loads(done.stdout) == kept
    assert [axis["axis"] for axis in kept["axes"]] == ["words", "objects"]
    assert [p["value"] for p in kept["axes"][0]["points"]] == [1, 54]
    assert (kept["model"], kept["precision"], kept["size"], kept["device"]) == ("clipvis", "fp32", [48, 64], "cpu")
    assert kept["base"] == {"words": 40, "objects": 0, "frames": 2}
    assert file.read_bytes().startswith(b"<?xml")
    shown = invoke(table, run.folder, "--columns", "AP,FPS", "--json")
    (row,) = json.loads(shown.stdout)["rows"]
    assert row["metrics"]["FPS"] == kept["axes"][0]["points"][1]["frames_per_second"]
    monkeypatch.setenv("COLUMNS", "200")
    assert "54 words, measured; clipvis, fp32, 48x64, " in invoke(table, run.folder, "--columns", "AP,FPS").stdout
    other = invoke(bench, *SMALL, "--run", run.folder, "--sweep", "words=1,2", "--checkpoint", file)
    assert "are not the weights of the run" in str(other.exception)


@pytest.mark.parametrize(
    ("given", "told"),
    [
        (("--model", "clipvis", "--sweep", "word=1,2"), '"word" is not an axis'),
        (("--model", "clipvis", "--sweep", "words=1"), "has one value, and a line needs two"),
        (("--model", "clipvis", "--sweep", "words=1,x"), "is not AXIS=N,N"),
        (("--model", "clipvis", "--sweep", "words=0,5"), "words begin at 1"),
        (("--model", "clipvis", "--sweep", "words=1,5", "words=2,3"), "words is swept twice"),
        (("--model", "clipvis", "--sweep", "frames=1,5", "--video", "x.mp4"), "needs generated frames"),
        (("--model", "clipvis", "words=1,5"), "is not an option"),
        (("--model", "clipvis", "--figure", "x.svg"), "needs --sweep"),
        (("--model", "clipvis", "--sweep", "words=1,5", "--figure", "x.png"), "is not the name of a figure"),
        (("--run", "x"), "needs --sweep"),
        (("--run", "x", "--model", "clipvis", "--sweep", "words=1,5"), "comes from the run"),
        ((), "is missing"),
    ],
)
def test_bench_refuses_a_sweep_of_another_form(given: tuple[str, ...], told: str) -> None:
    done = invoke(bench, *given)
    assert isinstance(done.exception, UserError)
    assert told in str(done.exception)
