"""``harness bench --fit``: the largest window, words and frames, from peaks of a made-up device and of a real one."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
import typer
from typer.testing import CliRunner

from harness.cli import bench_fit
from harness.cli.bench import bench
from harness.cli.bench_fit import measure_fit, table_of_fit, usable_bytes
from harness.errors import UserError
from harness.models import miniatures

MIB = 1 << 20
WEIGHTS = Path(miniatures.__file__).with_name("clipvis_shapes.safetensors")


def invoke(*arguments: Any) -> Any:
    app = typer.Typer()
    app.command()(bench)
    return CliRunner().invoke(app, [str(each) for each in arguments])


@pytest.fixture
def known_peaks(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, int, int]]:
    """A device of 10,000 MiB; a window costs 100 MiB per frame, a frame 2 MiB, words nothing. What was measured."""
    asked: list[tuple[int, int, int]] = []

    def peak(model: Any, video: Any, words: Any, device: str) -> int:
        asked.append((model, words, video))
        return (500 + 100 * model + 2 * video) * MIB

    monkeypatch.setattr(bench_fit, "_peak_of", peak)
    monkeypatch.setattr(bench_fit, "usable_bytes", lambda device: 10_000 * MIB)
    return asked


def test_what_fits_is_where_the_line_meets_nine_tenths_of_the_memory(known_peaks: list[tuple[int, int, int]]) -> None:
    base = {"window": 5, "words": 40, "frames": 20}
    record = measure_fit(lambda at: at["window"], lambda n: n, lambda n: n, base, "cpu")  # type: ignore[arg-type, return-value]
    assert known_peaks == [(3, 40, 20), (5, 40, 20), (5, 160, 20), (5, 40, 40)]
    axes = {axis["axis"]: axis for axis in record["axes"]}
    assert axes["window"]["points"] == [(3, 840 * MIB), (5, 1040 * MIB)]
    assert axes["window"]["per_unit_bytes"] == pytest.approx(100 * MIB)
    assert {axis: found["largest"] for axis, found in axes.items()} == {
        "window": (9000 - 540) // 100,
        "words": None,
        "frames": (9000 - 1000) // 2,
    }
    shown = table_of_fit({"model": "clipvis", "device": "cpu", "precision": "fp32", "size": [480, 853], **record})
    assert "not limited" in shown
    assert "window 5, words 40, frames 20" in shown


def test_what_was_measured_fits(known_peaks: list[tuple[int, int, int]], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bench_fit, "usable_bytes", lambda device: 700 * MIB)
    record = measure_fit(lambda at: 0, lambda n: n, lambda n: n, {"words": 1, "frames": 20}, "cpu")  # type: ignore[arg-type, return-value]
    assert [axis["largest"] for axis in record["axes"]] == [None, 65]
    monkeypatch.setattr(bench_fit, "usable_bytes", lambda device: 100 * MIB)
    record = measure_fit(lambda at: 0, lambda n: n, lambda n: n, {"words": 1, "frames": 20}, "cpu")  # type: ignore[arg-type, return-value]
    assert [axis["largest"] for axis in record["axes"]] == [None, 40]


def test_memory_of_a_gpu_is_what_is_free_and_what_is_kept_for_this_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (600, 1000) if device == "cuda:1" else (0, 0))
    monkeypatch.setattr(torch.cuda, "memory_reserved", lambda device: 150 if device == "cuda:1" else 0)
    assert usable_bytes("cuda:1") == 750


def test_memory_of_a_container(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    limit = tmp_path / "memory.max"
    monkeypatch.setattr(bench_fit, "CONTAINER_LIMITS", (limit, tmp_path / "absent"))
    limit.write_text("max\n")
    whole = usable_bytes("cpu")
    limit.write_text("1048576\n")
    assert usable_bytes("cpu") == MIB < whole


def test_on_this_machine() -> None:
    sizes = ("--size", "48x64", "--frames", 4, "--words", 3, "--set", "window=2")
    done = invoke("--model", "clipvis", "--checkpoint", WEIGHTS, "--fit", *sizes, "--device", "cpu", "--json")
    assert done.exit_code == 0, done.output
    record = json.loads(done.stdout.splitlines()[-1])
    assert (record["model"], record["size"]) == ("clipvis", [48, 64])
    assert record["base"] == {"window": 2, "words": 3, "frames": 8}
    assert [axis["axis"] for axis in record["axes"]] == ["window", "words", "frames"]
    assert [[value for value, _ in axis["points"]] for axis in record["axes"]] == [[1, 2], [3, 12], [8, 16]]
    assert all(bytes_ > 50 * MIB for axis in record["axes"] for _, bytes_ in axis["points"])


@pytest.mark.parametrize("option", [("--sweep", "words=1,2"), ("--run", "somewhere"), ("--video", "clip.mp4")])
def test_options_that_do_not_go_with_it(option: tuple[str, str]) -> None:
    refused = invoke("--model", "clipvis", "--fit", *option).exception
    assert isinstance(refused, UserError)
    assert str(refused).startswith(f"{option[0]}: does not go with --fit")
