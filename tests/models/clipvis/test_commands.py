"""``harness bench``, ``doctor`` and ``models show`` with CLIP-VIS."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner, Result

from harness.cli.bench import bench
from harness.cli.doctor import doctor, examine
from harness.cli.models import show_model
from harness.errors import UserError


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
    assert sum(record["stage_ms_per_frame"].values()) <= 1000 / record["frames_per_second"] * 1.05


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


def test_doctor_tells_which_path_deformable_attention_takes() -> None:
    told = examine()["models"]["clipvis"]["deformable attention"]
    assert told["path"] in ("cuda kernel", "cpu kernel")
    done = invoke(doctor, "--json")
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout)["faults"] == []
    assert "deformable attention" in invoke(doctor).stdout


def test_doctor_hides_passwords(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "https://user:secret@tracking.invalid")
    assert "secret" not in invoke(doctor).stdout


def test_show_lists_variants_published_numbers_and_keys() -> None:
    record = json.loads(invoke(show_model, "clipvis", "--json").stdout)
    best = record["card"]["variants"][1]
    assert best["published_ap"]["LV-VIS val"] == 32.2
    assert best["decoder_layers"] == 7
    assert {"short_edge", "window", "memory_length", "topk", "detections_per_video"} <= set(record["config"])
    assert all(key["description"] for key in record["config"].values())
    shown = invoke(show_model, "clipvis").stdout
    assert "32.2" in shown
    assert "github.com/zwq456/CLIP-VIS" in shown
