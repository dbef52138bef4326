"""What is done to masks between SAM 3's detector and its tracker, on cases small enough to check by hand."""

from __future__ import annotations

import torch

from harness.baselines.sam3.mask_kernels import cc_2d, generic_nms


def test_of_overlapping_masks_the_best_is_kept() -> None:
    # 1 overlaps 0 and 2; 0 and 2 do not overlap: with 1 the best both go, with 0 the best 2 stays
    ious = torch.tensor([[1.0, 0.6, 0.1], [0.6, 1.0, 0.6], [0.1, 0.6, 1.0]])
    assert generic_nms(ious, torch.tensor([0.5, 0.9, 0.7]), 0.5).tolist() == [1]
    assert generic_nms(ious, torch.tensor([0.9, 0.8, 0.7]), 0.5).tolist() == [0, 2]
    assert generic_nms(ious, torch.tensor([0.9, 0.8, 0.7]), 0.6).tolist() == [0, 1, 2]  # not above the threshold
    assert generic_nms(ious, torch.tensor([0.7, 0.7, 0.1]), 0.5).tolist() == [0, 2]
    assert generic_nms(torch.zeros(0, 0), torch.zeros(0), 0.5).tolist() == []


def test_areas_of_connected_parts() -> None:
    masks = torch.tensor(
        [
            [[1, 0, 0, 1], [0, 1, 0, 1], [0, 0, 0, 1]],  # a corner connects
            [[1, 0, 0, 0], [0, 0, 0, 0], [0, 0, 1, 1]],  # nothing connects with the mask before
        ],
        dtype=torch.uint8,
    )[:, None]
    found = cc_2d(masks, get_counts=True)
    assert found.areas[:, 0].tolist() == [
        [[2, 0, 0, 3], [0, 2, 0, 3], [0, 0, 0, 3]],
        [[1, 0, 0, 0], [0, 0, 0, 0], [0, 0, 2, 2]],
    ]
    assert len(found.labels.unique()) == 5  # the background and four parts
    assert (found.labels > 0).equal(masks > 0)
    assert cc_2d(torch.zeros(0, 1, 4, 4, dtype=torch.uint8)).areas.shape == (0, 1, 4, 4)
