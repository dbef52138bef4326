"""Everything behind the heads against golden values; scores by hand; what the flags change.

Tests of `models/shared/track_selection.py`.
"""

from __future__ import annotations

import math

import clipvis_golden
import pytest
import torch
from pycocotools import mask as coco
from torch import Tensor

from harness.models.clipvis.classifier import mask_pool, pooling_masks
from harness.models.clipvis.config import ClipVisConfig
from harness.models.clipvis.postprocess import (
    ScoreSums,
    TrackScoreAccumulator,
    frame_scores,
    image_scores,
    suppression,
)
from harness.models.clipvis.query_matching import QueryMatcher
from harness.models.shared import spill_buffer
from harness.models.shared.mask_buffer import MaskBuffer
from harness.models.shared.preprocess import Geometry
from harness.models.shared.text_classifier import TextClassifier, class_logits, classes_of
from harness.models.shared.track_selection import best, mask_score, mask_sums


@pytest.mark.parametrize("window", [1, 4, 100])
@pytest.mark.parametrize("name", clipvis_golden.cases("i_postproc_"))
def test_golden(name: str, window: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spill_buffer, "IN_MEMORY", 1 if window == 4 else 1 << 20)
    golden, facts = clipvis_golden.tensors(name), clipvis_golden.facts(name)
    classifier = TextClassifier(golden["text_classifier"], classes_of(facts["num_templates"]))
    sizes = Geometry(tuple(facts["output_size"]), tuple(facts["image_size"]), tuple(facts["padded_size"]))
    matcher, evidence = (
        QueryMatcher(facts["T"], facts["K"]),
        TrackScoreAccumulator(ClipVisConfig(detections_per_video=facts["topk"])),
    )
    # so small a budget that most windows are encoded before the tracks are known
    kept = MaskBuffer(sizes, golden["pred_masks"][:window].nbytes)
    orders = []
    for start in range(0, len(golden["pred_masks"]), window):
        heads = {key: golden[key][start : start + window] for key in golden if key.startswith(("pred_", "dense"))}
        orders.append(matcher.match(heads["pred_embds"]))
        dense = heads["dense"]
        masks = pooling_masks(heads["pred_masks"], (dense.shape[-2], dense.shape[-1]))
        logits = class_logits(mask_pool(dense, masks), classifier, math.exp(facts["logit_scale_param"]))
        told = frame_scores(logits, heads["pred_object_logits"], heads["pred_ious"], heads["pred_masks"])
        evidence.add(orders[-1], told)
        kept.add(heads["pred_masks"], orders[-1])
    assert torch.equal(torch.cat(orders), golden["indices"])
    selection = evidence.select()
    final = selection.scores * evidence.mask_scores(selection)
    mine, theirs = final.argsort(descending=True, stable=True), golden["scores"].argsort(descending=True, stable=True)
    clipvis_golden.close(final[mine], golden["scores"][theirs], atol=1e-5)
    assert torch.equal(selection.labels[mine], golden["labels"][theirs])
    assert torch.equal(selection.suppressed[mine], golden["suppressed"][theirs])

    results = sorted(clipvis_golden.results(name), key=lambda track: -track["score"])
    chosen = kept.of(selection.slots)
    evidence.close()
    kept.close()
    for track, i in zip(results, mine.tolist(), strict=True):
        for expected, rle, gone in zip(track["segmentations"], chosen.rles[i], selection.suppressed[i], strict=True):
            found = {"size": list(rle.size), "counts": rle.counts}
            if gone or not coco.area(expected):
                assert coco.area(expected) == 0
                assert gone or coco.area(found) == 0
            else:
                assert coco.iou([found], [expected], [False])[0, 0] >= 0.999


def _video() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Two frames, one query, two classes."""
    p = torch.tensor([[[0.25, 0.75]], [[1.0, 0.0]]])
    u = torch.tensor([[0.36], [0.81]])
    logits = torch.tensor([[[math.log(3.0), 0.0]], [[math.log(3.0), 0.0]]])
    return p, u, logits


def video_scores(p: Tensor, u: Tensor, logits: Tensor, config: ClipVisConfig, present: Tensor | None = None) -> Tensor:
    """Scores of a video that comes frame by frame."""
    sums = ScoreSums(config)
    for t in range(len(p)):
        frame = torch.ones(1, p.shape[1], dtype=torch.bool) if present is None else present[t : t + 1]
        sums.add(p[t : t + 1], u[t : t + 1], frame)
    return sums.result(logits)


def test_scores_by_hand() -> None:
    p, u, logits = _video()
    official = ClipVisConfig()
    first = math.sqrt((math.sqrt(0.25 * 0.36) + math.sqrt(0.81)) / 2 * 0.75)
    assert video_scores(p, u, logits, official)[0, 0].item() == pytest.approx(first)
    masked = ClipVisConfig(score_absent_frames=False)
    present = torch.tensor([[True], [False]])
    assert video_scores(p, u, logits, masked, present)[0, 0].item() == pytest.approx(math.sqrt(0.3 * 0.75))
    nowhere = torch.tensor([[False], [False]])
    assert video_scores(p, u, logits, masked, nowhere)[0, 0].item() == pytest.approx(first)
    assert image_scores(p[0], u[0], logits[0], official)[0, 0].item() == pytest.approx(math.sqrt(0.25 * 0.36 * 0.75))
    nested = image_scores(p[0], u[0], logits[0], ClipVisConfig(image_single_root=False))
    assert nested[0, 0].item() == pytest.approx(math.sqrt(math.sqrt(0.25 * 0.36) * 0.75))


def test_ablations_leave_a_factor_out() -> None:
    p, u, logits = _video()
    no_object = video_scores(p, u, logits, ClipVisConfig(object_score=False))
    assert no_object[0, 0].item() == pytest.approx(math.sqrt((0.3 + 0.9) / 2))
    no_iou = video_scores(p, u, logits, ClipVisConfig(mask_iou_score=False))
    assert no_iou[0, 0].item() == pytest.approx(math.sqrt((0.5 + 1.0) / 2 * 0.75))


def test_suppression_is_strict_and_by_flag() -> None:
    """Object probability 0.02 and p = 0 give v = 0.1 exactly: not below a tenth of 1, and gone without the sigmoid."""
    logits = torch.tensor([[[0.0, 100.0], [0.0, 0.0]]])
    p = torch.tensor([[0.0, 0.0]])
    scores = torch.tensor([1.0])
    assert suppression(p, logits, scores, ClipVisConfig()).tolist() == [[True, False]]
    assert suppression(p, logits, scores, ClipVisConfig(sigmoid_of_probability=False)).tolist() == [[True, True]]
    assert suppression(p, logits, scores, ClipVisConfig(suppress_frames=False)).tolist() == [[False, False]]


def test_equal_scores_come_in_a_fixed_order() -> None:
    scores = torch.tensor([[0.5, 0.9], [0.5, 0.5]])
    top, queries, labels = best(scores, 3)
    assert (queries.tolist(), labels.tolist()) == ([0, 0, 1], [1, 0, 0])
    assert best(scores, 50)[0].shape == (4,)
    assert top.tolist() == pytest.approx([0.9, 0.5, 0.5])


def test_mask_scores_count_positive_cells_inside() -> None:
    logits = torch.tensor([[[2.0, -1.0], [1.0, 3.0]], [[-1.0, -1.0], [-1.0, -1.0]]])
    expected = [sum(1 / (1 + math.exp(-x)) for x in (2.0, 1.0, 3.0)) / 3, 0.0]
    assert mask_score(*mask_sums(logits)).tolist() == pytest.approx(expected, abs=1e-5)
    inside = torch.tensor([[True, True], [False, False]])
    assert mask_score(*mask_sums(logits, inside))[0].item() == pytest.approx(1 / (1 + math.exp(-2)), abs=1e-5)
