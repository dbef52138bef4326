"""`scripts/gpu_check.py` on a CPU: every part, the page, what it says without a GPU, out of time and of faults."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from project_scripts import load_script

ROOT = Path(__file__).parents[1]


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The script as a module."""
    monkeypatch.setitem(sys.modules, "gpu_check", ModuleType("gpu_check"))  # and away at the end
    monkeypatch.setattr(sys, "path", list(sys.path))
    return load_script("gpu_check")


def run(script: ModuleType, monkeypatch: pytest.MonkeyPatch, folder: Path, *arguments: str) -> tuple[int, Any, str]:
    """Exit code, the JSON file and the page."""
    monkeypatch.setattr(sys, "argv", ["gpu_check.py", "--device", "cpu", "--out", str(folder), *arguments])
    code = script.main()
    return code, json.loads((folder / "gpu_check.json").read_text()), (folder / "gpu_check.md").read_text()


def test_every_part_on_a_cpu(script: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(script, "PRECISIONS", ("fp32",))
    monkeypatch.setattr(script, "WORDS", (1, 2))
    monkeypatch.setattr(script, "OBJECTS", (2,))
    monkeypatch.setattr(script.Networks, "names", lambda _: ["clipvis"])
    code, found, page = run(script, monkeypatch, tmp_path)
    assert (code, found["faults"], found["left_out"]) == (0, [], [])
    assert list(found["parts"]) == list(script.PARTS)
    errors = found["parts"]["correctness"]["errors"]
    assert len(errors) == 16
    assert max(row["output"] for row in errors if row["value"] == "float32") < 1e-6
    times = found["parts"]["kernel-times"]["rows"]
    assert {row["direction"] for row in times} == {"forward", "backward"}
    windows = found["parts"]["networks"]["rows"]
    assert [(row["graphs"], row["mask logits"], row["embeddings"]) for row in windows] == [("off", 0, 0), ("on", 0, 0)]
    assert [row["words"] for row in found["parts"]["videos"]["rows"]] == [1, 2]
    assert "## Times of the kernel" in page
    assert "a try of the script on a CPU" in page


def test_a_machine_without_a_gpu_is_one_line(
    script: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(script.torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(sys, "argv", ["gpu_check.py", "--out", str(tmp_path)])
    assert script.main() == 2
    assert capsys.readouterr().err == ("gpu_check: torch sees no CUDA device; --device cpu tries the script on a CPU\n")


def test_a_missing_source_is_named(
    script: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["x", "--device", "cpu", "--out", str(tmp_path), "--official", "absent.cu"])
    assert script.main() == 2
    assert "absent.cu: there is no such file; name it with --official" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("device", "complaint"),
    [
        ("cuda:2", "--device cuda:2: torch sees 2 CUDA devices"),
        ("gpu", "--device gpu: name cuda, one GPU as cuda:0, or cpu"),
        ("cuda:x", "--device cuda:x: name cuda, one GPU as cuda:0, or cpu"),
        ("cuda:1", None),
        ("cuda", None),
    ],
)
def test_a_device_that_is_not_there_is_one_line(
    script: Any, monkeypatch: pytest.MonkeyPatch, device: str, complaint: str | None
) -> None:
    monkeypatch.setattr(script.torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(script.torch.cuda, "device_count", lambda: 2)
    assert script.fault_of_device(device) == complaint


def test_a_part_in_a_process_of_its_own(script: Any, tmp_path: Path) -> None:
    given = argparse.Namespace(out=tmp_path, device="cpu", official=script.OFFICIAL)
    done = script.outcome_of_process(script.part_command("gpu-tests", given), 100.0, tmp_path)
    assert done == {"found": {"result": "not run: there is no GPU"}, "faults": [], "left_out": []}
    assert not list(tmp_path.iterdir())


def test_a_part_that_hangs_or_dies_is_a_fault_of_its_own(script: Any, tmp_path: Path) -> None:
    """It is ended with what it has started."""
    note = tmp_path / "pid"
    hangs = f"sleep 60 & echo $! > {note}; wait"
    done = script.outcome_of_process(["bash", "-c", hangs], 1.0, tmp_path)
    assert done["faults"] == ["its process did not end after 1 s at most"]
    state = Path(f"/proc/{note.read_text().strip()}/stat")
    assert not state.exists() or ") Z " in state.read_text()
    done = script.outcome_of_process(["bash", "-c", "kill -SEGV $$"], 60.0, tmp_path)
    assert done["found"] is None
    assert done["faults"] == ["its process ended with exit code -11 after 60 s at most"]


def test_parts_on_a_gpu_get_their_time_and_what_is_left(
    script: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """All together take the time of the command line, one that hangs included."""
    clock, limits = [0.0], []

    def outcome(command: list[str], seconds: float, folder: Path) -> dict[str, Any]:
        name = command[command.index("--part") + 1]
        limits.append((name, seconds))
        clock[0] += seconds if name == "networks" else 10.0  # that one hangs
        faults = ["its process did not end"] if name == "networks" else []
        return {
            "found": None if faults else {"result": name, "rows": [], "frame": ""},
            "faults": faults,
            "left_out": [],
        }

    monkeypatch.setattr(script.time, "monotonic", lambda: clock[0])
    monkeypatch.setattr(script.torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(script.torch.cuda, "set_device", lambda device: None)
    monkeypatch.setattr(script, "outcome_of_process", outcome)
    monkeypatch.setattr(script, "page", lambda found: "")
    monkeypatch.setattr(sys, "argv", ["gpu_check.py", "--out", str(tmp_path)])
    assert script.main() == 1
    assert dict(limits) == {
        "build": 40, "correctness": 110, "kernel-times": 170, "networks": 250, "videos": 120, "gpu-tests": 170,
    }  # fmt: skip
    assert clock[0] <= script.SECONDS < 480
    found = json.loads((tmp_path / "gpu_check.json").read_text())
    assert list(found["parts"]) == ["build", "correctness", "kernel-times", "videos", "gpu-tests"]
    assert found["faults"] == ["networks: its process did not end"]


def test_out_of_time_leaves_out_the_rest(script: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    code, found, page = run(
        script, monkeypatch, tmp_path, "--seconds", "0", "--part", "kernel-times", "--part", "networks"
    )
    assert code == 0
    assert found["parts"]["networks"]["rows"] == []
    assert "- left out: network clipvis" in page


def test_models_share_the_time_that_is_left(script: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(script.time, "monotonic", lambda: 100.0)
    setting = script.Setting(script.torch.device("cpu"), script.OFFICIAL, ends=190.0)
    assert [setting.share(parts).ends for parts in (3, 2, 1)] == [130.0, 145.0, 190.0]
    assert not script.Setting(setting.device, setting.official, 99.0, setting.left_out).share(2).in_time("a thing")
    assert setting.left_out == ["a thing"]


def test_a_part_that_fails_stops_no_other(script: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def fail(setting: Any) -> dict[str, Any]:
        raise RuntimeError("no luck\nmore")

    monkeypatch.setitem(script.PARTS, "build", fail)
    code, found, page = run(script, monkeypatch, tmp_path, "--part", "build", "--part", "gpu-tests")
    assert code == 1
    assert found["faults"] == ["build: RuntimeError: no luck"]
    assert "- build: RuntimeError: no luck" in page
    assert found["parts"]["gpu-tests"]["result"] == "not run: there is no GPU"


def test_a_wrong_kernel_is_a_fault(script: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    exactly = script.exact
    monkeypatch.setattr(script, "exact", lambda case: 1.1 * exactly(case))
    code, found, _ = run(script, monkeypatch, tmp_path, "--part", "correctness")
    assert code == 1
    assert len(found["faults"]) == 16


class Event:
    """A CUDA event that says six milliseconds."""

    def __init__(self, enable_timing: bool) -> None:
        assert enable_timing

    def record(self) -> None:
        """Nothing to record."""

    def synchronize(self) -> None:
        """Nothing to wait for."""

    def elapsed_time(self, end: Event) -> float:
        return 6.0


def test_times_on_a_gpu_are_those_of_events(script: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    slept: list[int] = []
    monkeypatch.setattr(script.torch.cuda, "Event", Event)
    monkeypatch.setattr(script.torch.cuda, "_sleep", slept.append)
    monkeypatch.setattr(script.torch.cuda, "synchronize", lambda device: None)
    monkeypatch.setattr(script.Setting, "on_gpu", True)
    setting = script.Setting(script.torch.device("cpu"), script.OFFICIAL, ends=0.0)
    calls: list[int] = []
    assert script.milliseconds(setting, calls.append, [(1,), (2,), (3,)], rounds=2) == 2.0
    assert calls == [1, 2, 3] * 3  # once to warm up
    assert len(slept) == 2
    assert script.copy_speed(setting, 1 << 10) == pytest.approx(2 * 1024 / 0.6e-3)
    assert script.busy_fraction(setting, lambda: None) is None  # nothing can be seen
    assert setting.shapes == script.SHAPES


def test_busy_time_counts_overlapping_kernels_once(script: Any) -> None:
    assert script.covered([(0, 2), (1, 3), (5, 6), (5.5, 5.7)]) == 4
    assert script.covered([]) == 0


def test_the_algorithm_of_2020_is_compared_with_its_steps_outside(script: Any) -> None:
    rows = [
        {"shape": "s", "implementation": "ours, float32", "direction": "forward", "ms": 2.0},
        {"shape": "s", "implementation": "algorithm of 2020, float32", "direction": "forward", "ms": 6.0},
        {"shape": "s", "implementation": "softmax and locations, which", "direction": "forward", "ms": 1.0},
        {"shape": "s", "implementation": "ours, float32", "direction": "backward", "ms": 2.0},
    ]
    assert [row["2020 by this"] for row in script.with_ratio(rows)] == [3.5, 7 / 6, 7.0, None]
