"""Full-size networks on a pretended CUDA device: no mixing of devices, the right types, no new wait for the device.

No GPU takes part and no number is computed; see ``fake_cuda``.
"""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import pytest
import torch
from fake_cuda import Watch, put_on_fake_cuda
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode

from harness.baselines.ov2seg.model import TEMPERATURE, Ov2Seg
from harness.baselines.ov2seg.network import Architecture as Ov2SegArchitecture
from harness.baselines.ov2seg.network import Ov2SegNetwork
from harness.models.backbones.swin import SwinSize
from harness.models.clipvis.model import ClipVis
from harness.models.clipvis.network import Architecture as ClipVisArchitecture
from harness.models.clipvis.network import ClipVisNetwork
from harness.models.shared.text_classifier import TextClassifier, class_logits

NETWORKS = {
    "CLIP-VIS, RN50": lambda: ClipVisNetwork(ClipVisArchitecture(clip_model="RN50")),
    "CLIP-VIS, ConvNeXt-B": lambda: ClipVisNetwork(ClipVisArchitecture(clip_model="convnext_base_w_320")),
    "OV2Seg, R50": lambda: Ov2SegNetwork(Ov2SegArchitecture()),
    "OV2Seg, Swin-B": lambda: Ov2SegNetwork(Ov2SegArchitecture(backbone=SwinSize())),
}
PRECISIONS = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
FRAMES, CLASSES, SYNONYMS = 2, 40, 60

KNOWN_WAITS = Counter(
    {
        "models.clipvis.model.ClipVis.forward": 1,  # the frames
        "baselines.ov2seg.model.Ov2Seg.forward": 1,
        "models.shared.preprocess.normalise": 2,  # the constants of normalisation
        "models.shared.text_classifier.TextClassifier.classes": 2,  # the number of classes, asked twice
    }
)
"""Most waits of the host for the device in a window, network and classification, by function. Never add to it lightly:
each one lets the device run dry."""


@pytest.fixture(scope="module", params=NETWORKS.values(), ids=NETWORKS.keys())
def network(request: pytest.FixtureRequest) -> nn.Module:
    with torch.device("meta"):
        made: nn.Module = request.param()
    return made


@pytest.mark.parametrize("precision", PRECISIONS)
def test_a_window_on_cuda(network: Any, precision: str, monkeypatch: pytest.MonkeyPatch) -> None:
    # autocast asks whether there is a CUDA device that can do it
    monkeypatch.setattr(torch.cuda.amp.common, "amp_definitely_not_available", lambda: False)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda *_, **__: True)
    monkeypatch.setattr(network, "to", lambda *_, **__: network)
    watch = Watch(number=CLASSES - 1)
    with FakeTensorMode(allow_non_fake_inputs=True), torch.no_grad():
        put_on_fake_cuda(network)
        if isinstance(network, ClipVisNetwork):
            model: Any = ClipVis(network, device="cuda", precision=precision)
        else:
            model = Ov2Seg(network, classifier_of=lambda _: pytest.fail("asked"), device="cuda", precision=precision)
        sizes = model.geometry(64, 96)
        frames = [np.zeros((*sizes.resized, 3), np.uint8)] * FRAMES
        with watch:
            if isinstance(model, ClipVis):
                output, dense = model.forward(frames, sizes)
                logits = model._classify(dense, output.mask_logits, text_classifier(network.backbone.embed_dim))
            else:
                output = model.forward(frames, sizes)
                classifier = text_classifier(output.class_embeddings.shape[-1])
                logits = class_logits(output.class_embeddings, classifier, TEMPERATURE)

    floats = [logits, output.object_logits, output.mask_logits, output.embeddings]
    assert {(each.device.type, each.dtype) for each in floats} == {("cuda", torch.float32)}
    assert logits.shape == (FRAMES, output.mask_logits.shape[1], CLASSES)
    # the pixel decoder stays in float32 but for the values it samples, everything before and behind it is mixed
    assert watch.types["convolution"] == {torch.float32, PRECISIONS[precision]}
    added = watch.waits - KNOWN_WAITS
    assert not added, f"the host waits for the device in {dict(added)}"

    calls = watch.calls["fused_deformable_attention"]
    assert len(calls) == 6
    for value, _, offsets, *_ in calls:
        # the variants that tests/models/ops/test_ptx.py emulates
        stored = torch.bfloat16 if precision == "bf16" else torch.float32
        assert (value.dtype, offsets.dtype) == (stored, torch.float32)
        assert (value.shape[2:], offsets.shape[2:]) == ((8, 32), (8, 3, 4, 2))


def text_classifier(width: int) -> TextClassifier:
    """Embeddings of `CLASSES` classes with `SYNONYMS` names, on the pretended device."""
    rows = torch.empty(SYNONYMS, width, device="cuda")
    return TextClassifier(rows, torch.empty(SYNONYMS, dtype=torch.int64, device="cuda"))


def test_a_wait_that_is_added_is_seen() -> None:
    watch = Watch(number=3)
    with FakeTensorMode(), watch:
        tensor = torch.empty(3, device="cuda")
        assert int(tensor.sum()) == 3
        tensor.cpu()
        torch.empty(2).to("cuda")
        _ = tensor + 1
    assert sum(watch.waits.values()) == 3
    with FakeTensorMode(), watch, pytest.raises(RuntimeError, match="device"):
        _ = torch.empty(3, device="cuda") + torch.empty(3)
