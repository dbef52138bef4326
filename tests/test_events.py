"""Time and memory of stages over several videos."""

from __future__ import annotations

from harness.events import StageUse, merge_stage_usage


def test_seconds_add_up_and_memory_is_the_most() -> None:
    parts = [{"a": StageUse(1.0, 10), "b": StageUse(2.0, 5)}, {"a": StageUse(0.5, 30)}]
    assert merge_stage_usage(parts) == {"a": StageUse(1.5, 30), "b": StageUse(2.0, 5)}
    assert merge_stage_usage([]) == {}
