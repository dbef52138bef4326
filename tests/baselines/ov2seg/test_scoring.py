"""Scores, selection and suppressed frames of OV2Seg on given outputs of the network: golden values, and by hand."""

from __future__ import annotations

from contextlib import closing

import ov2seg_golden
import pytest
import torch
from torch import Tensor

from harness.baselines.ov2seg.config import Ov2SegConfig
from harness.baselines.ov2seg.scoring import VideoScores, class_scores, frame_logits, video_mask_score
from harness.models.shared.track_selection import TrackSelection

CASES = ov2seg_golden.cases("tracking_")


@pytest.mark.parametrize("window", [1, 3, 100])
@pytest.mark.parametrize("name", CASES)
def test_scores_picks_suppressed_frames_and_mask_scores(name: str, window: int) -> None:
    golden = ov2seg_golden.tensors(name)
    config = Ov2SegConfig(detections_per_video=len(golden["score.pick_score"]))
    per_frame = class_scores(golden["out.per_frame_logits"], golden["out.per_frame_object_logits"], config)
    of_video = class_scores(golden["out.logits"][:, :-1], golden["out.object_logits"], config)
    ov2seg_golden.close(of_video, golden["score.class_score_matrix"], atol=1e-6)
    with closing(evidence_of(golden, window, config)) as evidence:
        selection = evidence.select()
        final = selection.scores * evidence.mask_scores(selection)
    order = aligned(selection, golden)
    ov2seg_golden.close(selection.scores[order], golden["score.pick_score"], atol=1e-6)
    assert torch.equal(selection.suppressed[order], golden["score.frame_suppressed"].bool())
    picked = per_frame[golden["score.pick_query"], :, golden["score.pick_class"]]
    ov2seg_golden.close(picked, golden["score.per_frame_score"], atol=1e-6)
    ov2seg_golden.close(final[order], golden["score.final_score"], atol=2e-6)


def test_score_by_hand() -> None:
    """One query, logits 0 and ln 3, even odds of an object: sqrt(1/2 * 1/2) and sqrt(3/4 * 1/2)."""
    logits, objects = torch.tensor([[0.0, 1.0986123]]), torch.zeros(1, 2)
    found = class_scores(logits, objects, Ov2SegConfig())
    assert torch.allclose(found, torch.tensor([[0.5, 0.6123724]]))
    without_object = class_scores(logits, objects, Ov2SegConfig(object_score=False))
    assert torch.allclose(without_object, torch.tensor([[0.7071068, 0.8660254]]))
    softmax = class_scores(logits, objects, Ov2SegConfig(object_score=False, sigmoid_of_classes=False))
    assert torch.allclose(softmax, torch.tensor([[1 / 5, 3 / 5]]).sqrt())  # 1, 3, and 1 for the zero column


def test_mask_score_over_the_video_or_per_frame() -> None:
    """Nine pixels of 0.9 and one of 0.6: jointly 0.87, per frame 0.75; the suppressed third frame counts in neither."""
    confidence, area = torch.tensor([[8.1, 0.6, 1.0]]), torch.tensor([[9.0, 1.0, 1.0]])
    kept = torch.tensor([[True, True, False]])
    jointly = video_mask_score(confidence, area, kept, Ov2SegConfig())
    per_frame = video_mask_score(confidence, area, kept, Ov2SegConfig(mask_score_over_video=False))
    assert float(jointly) == pytest.approx(0.87, abs=1e-5)
    assert float(per_frame) == pytest.approx(0.75, abs=1e-5)
    assert float(video_mask_score(confidence, area, ~kept & False, Ov2SegConfig())) == 0.0


def test_suppression_can_be_left_out_and_memory_can_decide_classes() -> None:
    golden = ov2seg_golden.tensors("tracking_long")
    config = Ov2SegConfig(detections_per_video=15, suppress_frames=False)
    forced = torch.full_like(golden["out.logits"][:, :-1], -9.0)
    forced[4, 2] = 9.0
    with closing(evidence_of(golden, 5, config)) as evidence:
        assert not evidence.select().suppressed.any()
        best = evidence.select(forced)
    assert (int(best.slots[0]), int(best.labels[0])) == (4, 2)


def evidence_of(golden: dict[str, Tensor], window: int, config: Ov2SegConfig) -> VideoScores:
    evidence = VideoScores(config)
    order = torch.cat((torch.arange(golden["assignment"].shape[1])[None], golden["assignment"]))
    parts = [order, golden["in.pred_logits"][..., :-1], golden["in.pred_object_logits"], golden["in.pred_masks"]]
    for some in zip(*(torch.split(part, window) for part in parts), strict=True):
        evidence.add(some[0], frame_logits(*some[1:]))
    return evidence


def aligned(selection: TrackSelection, golden: dict[str, Tensor]) -> list[int]:
    """Positions of the golden picks in ours."""
    mine = list(zip(selection.slots.tolist(), selection.labels.tolist(), strict=True))
    theirs = list(zip(golden["score.pick_query"].tolist(), golden["score.pick_class"].tolist(), strict=True))
    assert sorted(mine) == sorted(theirs)
    return [mine.index(pick) for pick in theirs]
