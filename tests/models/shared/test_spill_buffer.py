"""What waits until tracks are chosen comes back as it was, in memory, from a file or computed once more."""

from __future__ import annotations

from contextlib import closing

import numpy as np
import pytest
import torch
from torch import Tensor

from harness.models.shared import mask_buffer, spill_buffer
from harness.models.shared.mask_buffer import MaskBuffer
from harness.models.shared.preprocess import Geometry
from harness.models.shared.spill_buffer import DeferredScores, SpillBuffer

WIDTH, CLASSES = 4, 50


def groups() -> list[tuple[np.ndarray, ...]]:
    draw = np.random.default_rng(0)
    return [
        (draw.random((frames, 3), np.float32), draw.random((2, frames)) > 0.5, np.zeros((0, 5), np.uint8))
        for frames in (4, 1, 7, 2)
    ]


@pytest.mark.parametrize("in_memory", [0, 100, 1 << 20])
def test_arrays_come_back_in_order(in_memory: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spill_buffer, "IN_MEMORY", in_memory)
    with closing(SpillBuffer()) as kept:
        for group in groups():
            kept.add(*group)
        assert kept.nbytes == sum(array.nbytes for group in groups() for array in group)
        for _ in range(2):
            for found, expected in zip(kept, groups(), strict=True):
                assert [a.dtype for a in found] == [a.dtype for a in expected]
                assert all(np.array_equal(a, b) for a, b in zip(found, expected, strict=True))


def test_a_transposed_array_is_kept_by_its_values(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spill_buffer, "IN_MEMORY", 0)
    with closing(SpillBuffer()) as kept:
        kept.add(np.arange(6).reshape(2, 3).T)
        assert [array.tolist() for (array,) in kept] == [[[0, 3], [1, 4], [2, 5]]]


def scores_of(order: Tensor, features: Tensor) -> Tensor:
    table = torch.randn(WIDTH, CLASSES, generator=torch.Generator().manual_seed(1))
    return (features @ table).softmax(-1)[torch.arange(len(order))[:, None], order]


def waiting(again: bool) -> tuple[DeferredScores, Tensor]:
    """Scores of 20 frames of 6 queries, and those of three tracks."""
    kept, draw = DeferredScores(scores_of if again else None), torch.Generator().manual_seed(2)
    for frames in (3, 7, 1, 9):
        features = torch.randn(frames, 6, WIDTH, generator=draw)
        order = torch.stack([torch.randperm(6, generator=draw) for _ in range(frames)])
        kept.add(scores_of(order, features), order, features)
    return kept, kept.of(torch.tensor([5, 0, 5]), torch.tensor([49, 7, 0]))


@pytest.mark.parametrize("in_memory", [0, 10 * 6 * CLASSES * 4])
def test_scores_that_are_computed_again_have_the_same_bits(in_memory: int, monkeypatch: pytest.MonkeyPatch) -> None:
    kept, expected = waiting(again=False)
    assert kept.nbytes == 20 * 6 * CLASSES * 4
    monkeypatch.setattr(spill_buffer, "IN_MEMORY", in_memory)
    later, found = waiting(again=True)
    with closing(kept), closing(later):
        assert found.shape == (3, 20)
        assert torch.equal(found, expected)
        frames_computed_again = 20 if in_memory == 0 else 10
        source = frames_computed_again * 6 * (WIDTH * 4 + 8)
        assert later.nbytes == source + in_memory


def test_scores_of_few_classes_are_kept_themselves(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spill_buffer, "IN_MEMORY", 0)

    def never(*source: Tensor) -> Tensor:
        raise AssertionError("computed again")

    scores = torch.rand(2, 3, 5)
    with closing(DeferredScores(never)) as kept:
        kept.add(scores, torch.rand(2, 3, 4))
        assert torch.equal(kept.of(torch.tensor([2]), torch.tensor([4])), scores[:, 2, 4][None])


@pytest.mark.parametrize("slots", [[1], [3, 0, 2]])
def test_masks_that_waited_in_a_file_are_the_same(slots: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    sizes, draw = Geometry((30, 40), (32, 40), (32, 64)), torch.Generator().manual_seed(0)
    windows = [torch.randn(frames, 4, 8, 16, generator=draw) for frames in (3, 1, 2)]
    orders = [torch.stack([torch.randperm(4, generator=draw) for _ in window]) for window in windows]

    def masks(budget: int) -> mask_buffer.TrackMasks:
        with closing(MaskBuffer(sizes, budget, confidence=True)) as kept:
            for window, order in zip(windows, orders, strict=True):
                kept.add(window, order)
            return kept.of(torch.tensor(slots))

    late, early = masks(1 << 20), masks(windows[-1].nbytes)
    monkeypatch.setattr(spill_buffer, "IN_MEMORY", 0)
    for found in (early, masks(0)):
        assert found.rles == late.rles
        assert torch.equal(found.confidence, late.confidence)
        assert torch.equal(found.area, late.area)
