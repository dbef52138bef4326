"""Pooling under masks and class logits: golden values, empty masks, and the flags."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import clipvis_golden
import pytest
import torch
from torch import Tensor

from harness.models.backbones.clip import ClipBackbone
from harness.models.clipvis.classifier import QueryClassifier, mask_pool, pooling_masks
from harness.models.clipvis.network import ClipVisNetwork
from harness.models.shared.text_classifier import TextClassifier, class_logits, classes_of


@pytest.mark.parametrize("name", clipvis_golden.cases("e_classify_"))
@torch.no_grad()
def test_golden(name: str, backbone: Callable[[str], ClipBackbone], monkeypatch: pytest.MonkeyPatch) -> None:
    golden, facts = clipvis_golden.tensors(name), clipvis_golden.facts(name)
    clip = backbone(name.removeprefix("e_classify_")[:-2])
    monkeypatch.setattr(clip.clip_model.logit_scale, "data", torch.tensor(facts["logit_scale_param"]))
    classifier = TextClassifier(golden["text_classifier"], classes_of(golden["num_templates"].tolist()))
    classify = QueryClassifier(clip)

    masks = pooling_masks(golden["pred_masks"], (golden["dense"].shape[-2], golden["dense"].shape[-1]))
    assert torch.equal(masks, golden["mask_for_pooling"] > 0)
    features, empty = classify.features(golden["dense"], golden["pred_masks"])
    assert empty.any()
    assert torch.equal(empty, golden.get("empty", empty))
    if "mask_pooled" in golden:
        clipvis_golden.close(mask_pool(golden["dense"], masks), golden["mask_pooled"], atol=1e-4, rtol=1e-3)
    told = ~empty if clip.is_resnet else torch.ones_like(empty)
    clipvis_golden.close(features[told], golden["clip_feature"][told], atol=1e-4, rtol=1e-3)
    logits = classify(golden["dense"], golden["pred_masks"], classifier)
    clipvis_golden.close(logits, golden["cls_logits"], atol=2e-3)


def test_a_class_scores_as_its_best_synonym() -> None:
    classifier = TextClassifier(torch.eye(3), torch.tensor([0, 1, 1]))
    logits = class_logits(torch.tensor([[3.0, 0.0, 4.0], [0.0, -1.0, 0.0]]), classifier, 10.0)
    assert torch.allclose(logits, torch.tensor([[6.0, 8.0], [0.0, 0.0]]))


def test_mean_under_a_mask() -> None:
    dense = torch.tensor([[[[1.0, 2.0], [3.0, 5.0]]]])
    masks = torch.tensor([[[[True, False], [True, False]], [[False, False], [False, False]]]])
    assert torch.allclose(mask_pool(dense, masks), torch.tensor([[[2.0], [0.0]]]))


def test_empty_masks_by_flag(tiny: ClipVisNetwork) -> None:
    """A ResNet's empty mask has zero logits, or those of the whole frame; never NaN."""
    classifier = TextClassifier(torch.eye(32)[:4], torch.arange(4))
    dense = torch.randn(1, 256, 2, 2, generator=torch.Generator().manual_seed(0))
    masks = torch.full((1, 2, 16, 16), -1.0)
    masks[:, 1] = 1.0
    official = QueryClassifier(tiny.backbone)
    logits = official(dense, masks, classifier)[0]
    assert not logits[0].any()
    assert logits[1].isfinite().all()
    whole = dataclasses.replace(official, zero_empty_logits=False)(dense, masks, classifier)[0]
    assert torch.allclose(whole[0], whole[1])
    token = dataclasses.replace(official, class_token_is_key=True)(dense, masks, classifier)[0]
    assert not torch.allclose(token[1], logits[1])


class LinearHead:
    """A stand-in for a ConvNeXt backbone whose head adds one."""

    is_resnet = False
    logit_scale = torch.tensor(10.0)

    def project(self, pooled: Tensor) -> Tensor:
        return pooled + 1


def test_empty_masks_of_a_convnext_go_through_its_head() -> None:
    """They score as the head's answer to zero (official), or not at all."""
    classifier = TextClassifier(torch.eye(4)[:2], torch.arange(2))
    dense, masks = torch.ones(1, 4, 2, 2), torch.full((1, 1, 8, 8), -1.0)
    official = QueryClassifier(LinearHead())  # type: ignore[arg-type]
    assert torch.allclose(official(dense, masks, classifier), torch.full((1, 1, 2), 5.0))
    assert not dataclasses.replace(official, project_empty_masks=False)(dense, masks, classifier).any()
