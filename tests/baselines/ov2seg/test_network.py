"""OV2Seg's network against golden values: backbone, pixel decoder, every layer's heads, attention masks.

Tests of `baselines/ov2seg/decoder.py`.
"""

from __future__ import annotations

import ov2seg_golden
import pytest
import torch
from torch import Tensor

from harness.baselines.ov2seg.decoder import OpenVocabularyPrediction
from harness.baselines.ov2seg.network import Ov2SegArchitecture, Ov2SegNetwork
from harness.baselines.ov2seg.scoring import CLASS_TEMPERATURE
from harness.models.mask2former.transformer_decoder import attention_mask
from harness.models.shared.text_classifier import TextClassifier, class_logits

needs_all = pytest.mark.skipif(not ov2seg_golden.cases("network"), reason="needs HARNESS_GOLDEN: too large")


@pytest.fixture(scope="module")
def network() -> Ov2SegNetwork:
    return ov2seg_golden.released_network()


def with_zero_column(logits: Tensor) -> Tensor:
    """The official logits: behind the classes one that is always 0."""
    return torch.nn.functional.pad(logits, (0, 1))


def classify(embeddings: Tensor, text_raw: Tensor) -> Tensor:
    rows = torch.nn.functional.normalize(text_raw, dim=-1)
    return with_zero_column(class_logits(embeddings, TextClassifier(rows, torch.arange(len(rows))), CLASS_TEMPERATURE))


def test_the_recipe_gives_the_weights_of_the_golden_vectors(network: Ov2SegNetwork) -> None:
    state = network.state_dict()
    for name, probe in ov2seg_golden.MANIFEST["weights"]["probes"].items():
        assert state[name].flatten()[:3].tolist() == pytest.approx(probe["first"], abs=1e-7)
        assert float(state[name].double().sum()) == pytest.approx(probe["sum"], rel=1e-5)


@needs_all
@torch.no_grad()
def test_backbone_and_pixel_decoder(network: Ov2SegNetwork) -> None:
    golden = ov2seg_golden.tensors("network")
    features = network.backbone(golden["image"][:1])
    for found, name in zip(features, ("layer2", "layer3", "layer4", "layer5"), strict=True):
        ov2seg_golden.close(found, golden[f"backbone.{name}"], atol=5e-4)
    taps: dict[str, Tensor] = {}
    decoder = network.sem_seg_head.pixel_decoder
    watched = {f"proj{i}": projection for i, projection in enumerate(decoder.input_proj)}
    watched |= {"enc0": decoder.transformer.encoder.layers[0], "memory": decoder.transformer.encoder.layers[-1]}
    hooks = [m.register_forward_hook(lambda m, x, y, name=name: taps.update({name: y})) for name, m in watched.items()]
    decoded = decoder(features)
    for hook in hooks:
        hook.remove()
    taps |= {"mask_features": decoded.mask_features} | {f"ms{i}": m for i, m in enumerate(decoded.multi_scale)}
    assert {f"pixel.{name}" for name in taps} == {name for name in golden if name.startswith("pixel.")}
    for name, found in taps.items():
        ov2seg_golden.close(found, golden[f"pixel.{name}"], atol=1e-4)


@needs_all
@torch.no_grad()
def test_predictions_of_every_layer(network: Ov2SegNetwork) -> None:
    golden = ov2seg_golden.tensors("network")
    queries: dict[int, Tensor] = {}
    layers = network.sem_seg_head.predictor.transformer_ffn_layers
    hooks = [m.register_forward_hook(lambda m, x, y, i=i: queries.update({i: y})) for i, m in enumerate(layers, 1)]
    output = network(golden["image"][:1], auxiliary=True)
    for hook in hooks:
        hook.remove()
    for i in (1, 2, 6):
        ov2seg_golden.close(queries[i].transpose(0, 1), golden[f"dec.query_{i}"], atol=1e-4)
    last = OpenVocabularyPrediction(output.object_logits, output.class_embeddings, output.mask_logits)
    predictions = [*output.auxiliary, last]
    assert len(predictions) == 7
    for i, prediction in enumerate(predictions):
        ov2seg_golden.close(prediction.object_logits, golden[f"dec.object_{i}"], atol=1e-4)
        logits = classify(prediction.class_embeddings, golden["text_raw"])
        ov2seg_golden.close(logits, golden[f"dec.class_{i}"], atol=1e-4)
        if f"dec.masks_{i}" in golden:
            ov2seg_golden.close(prediction.mask_logits, golden[f"dec.masks_{i}"], atol=1e-4)
    for i, size in enumerate([(2, 3), (4, 6), (8, 12)] * 2):
        resized = torch.nn.functional.interpolate(predictions[i].mask_logits, size=size, mode="bilinear")
        blocked = golden[f"dec.attn_blocked_{i}"].bool()
        everywhere = blocked.all(-1, keepdim=True)
        assert torch.equal(~attention_mask(resized), blocked & ~everywhere)


@needs_all
@pytest.mark.parametrize("auxiliary", [False, True])
@torch.no_grad()
def test_a_batch(auxiliary: bool, network: Ov2SegNetwork) -> None:
    golden = ov2seg_golden.tensors("network")
    output = network(golden["image"], auxiliary=auxiliary)
    logits = classify(output.class_embeddings, golden["text_raw"])
    ov2seg_golden.close(logits, golden["final.pred_logits"], atol=1e-4)
    ov2seg_golden.close(output.object_logits, golden["final.pred_object_logits"], atol=1e-4)
    ov2seg_golden.close(output.embeddings, golden["final.pred_embds"], atol=1e-4)
    ov2seg_golden.close(output.mask_logits[:1], golden["final.pred_masks"], atol=1e-4)
    assert len(output.auxiliary) == (6 if auxiliary else 0)


@torch.no_grad()
def test_heads_on_given_embeddings(network: Ov2SegNetwork) -> None:
    golden = ov2seg_golden.tensors("classification")
    predictor = network.sem_seg_head.predictor
    embedding = golden["embedding"]
    projected = predictor.class_embed(embedding)
    ov2seg_golden.close(projected, golden["projected"], atol=1e-4)
    ov2seg_golden.close(classify(projected, golden["text_raw"]), golden["logits"], atol=1e-4)
    ov2seg_golden.close(predictor.object_embed(embedding), golden["object_logits"], atol=1e-4)
    ov2seg_golden.close(predictor.mask_embed(embedding), golden["mask_embed"], atol=1e-4)


def test_learns(architecture: Ov2SegArchitecture) -> None:
    """In training every parameter has a gradient, from the last prediction and from each before it."""
    torch.manual_seed(0)
    network = Ov2SegNetwork(architecture).train()
    output = network(torch.randn(2, 3, 64, 96), auxiliary=True)
    assert len(output.auxiliary) == architecture.decoder_layers
    for prediction in (output, *output.auxiliary):
        heads = (prediction.object_logits, prediction.class_embeddings, prediction.mask_logits)
        sum(head.square().mean() for head in heads).backward(retain_graph=True)
    without = [name for name, p in network.named_parameters() if p.grad is None or not p.grad.isfinite().all()]
    assert without == []
