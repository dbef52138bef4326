"""Memory tracking on given embeddings, against golden values and by hand."""

from __future__ import annotations

import ov2seg_golden
import pytest
import torch
from torch import Tensor

from harness.baselines.ov2seg.memory_tracking import MemoryMatcher

CASES = ov2seg_golden.cases("tracking_")


def test_the_cases_are_there() -> None:
    assert CASES == ["tracking_hard", "tracking_long", "tracking_permuted"]


@pytest.mark.parametrize("window", [1, 4, 100])
@pytest.mark.parametrize("name", CASES)
def test_matching(name: str, window: int) -> None:
    golden = ov2seg_golden.tensors(name)
    embeddings = golden["in.pred_embds"]
    matcher = MemoryMatcher()
    orders, memories = [], []
    for part in torch.split(embeddings, window):
        orders.append(matcher.match(part))
        memories.append(matcher.memory)
    order = torch.cat(orders)
    assert order[0].tolist() == list(range(embeddings.shape[1]))
    assert torch.equal(order[1:], golden["assignment"])
    if window == 1:
        for found, expected in zip(memories, golden["memory_before_frame"], strict=False):
            assert found is not None
            ov2seg_golden.close(found, expected, atol=1e-5)


def unit(*angles: float) -> Tensor:
    """Rows of length 1 at these angles in degrees."""
    turned = torch.deg2rad(torch.tensor(angles))
    return torch.stack((turned.cos(), turned.sin()), dim=-1)


def test_the_memory_outlives_a_faint_odd_frame() -> None:
    """Embeddings turn by 60 degrees in one faint frame, then by 60 the other way: who forgets is lost."""
    frames = torch.stack((unit(0, 90), 0.01 * unit(60, 150), unit(-60, 30)))
    assert MemoryMatcher().match(frames).tolist() == [[0, 1], [0, 1], [0, 1]]
    assert MemoryMatcher(weight=1).match(frames).tolist() == [[0, 1], [0, 1], [1, 0]]


def test_memory_is_a_running_mean_of_any_length() -> None:
    matcher = MemoryMatcher()
    matcher.match(torch.stack((unit(0, 90), 3 * unit(0, 90))))
    assert matcher.memory is not None
    assert torch.allclose(matcher.memory, 2.4 * unit(0, 90), atol=1e-6)
    normalised = MemoryMatcher(normalise_memory=True)
    normalised.match(torch.stack((unit(0, 90), 3 * unit(30, 120))))
    assert normalised.memory is not None
    assert torch.allclose(normalised.memory.norm(dim=-1), torch.ones(2))


def test_absent_frames_are_remembered_unless_told_otherwise() -> None:
    frames = torch.stack((unit(0, 90), unit(20, 110)))
    present = torch.tensor([[True, True], [False, True]])
    kept, left_out = MemoryMatcher(), MemoryMatcher(remember_absent_frames=False)
    kept.match(frames, present)
    left_out.match(frames, present)
    assert kept.memory is not None
    assert left_out.memory is not None
    assert not torch.allclose(kept.memory[0], frames[0, 0])
    assert torch.equal(left_out.memory[0], frames[0, 0])
    assert torch.equal(left_out.memory[1], kept.memory[1])
