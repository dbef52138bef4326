"""Time and memory of stages over several videos: seconds add up, the largest memory stays."""

from __future__ import annotations

from harness.events import StageUse, merge_stage_usage


def test_seconds_add_up_and_the_largest_memory_stays() -> None:
    parts = [{"decode": StageUse(1.0, 10), "encode": StageUse(0.5, 70)}, {"decode": StageUse(2.0, 30)}, {}]
    merged = merge_stage_usage(parts)
    assert merged == {"decode": StageUse(3.0, 30), "encode": StageUse(0.5, 70)}
    assert list(merged) == ["decode", "encode"]
    assert merge_stage_usage([]) == {}
