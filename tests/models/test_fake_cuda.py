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
from torch.utils._pytree import tree_leaves

from harness.baselines.ov2seg.config import Ov2SegConfig
from harness.baselines.ov2seg.model import Ov2Seg
from harness.baselines.ov2seg.network import Ov2SegArchitecture, Ov2SegNetwork
from harness.frames import Image
from harness.models.backbones.swin import SwinSize
from harness.models.clipvis.config import ClipVisConfig
from harness.models.clipvis.model import ClipVis
from harness.models.clipvis.network import ClipVisArchitecture, ClipVisNetwork
from harness.models.shared.overlap import HostCopy
from harness.models.shared.text_classifier import TextClassifier
from harness.types import Video

NETWORKS = {
    "CLIP-VIS, RN50": lambda: ClipVisNetwork(ClipVisArchitecture(clip_model="RN50")),
    "CLIP-VIS, ConvNeXt-B": lambda: ClipVisNetwork(ClipVisArchitecture(clip_model="convnext_base_w_320")),
    "OV2Seg, R50": lambda: Ov2SegNetwork(Ov2SegArchitecture()),
    "OV2Seg, Swin-B": lambda: Ov2SegNetwork(Ov2SegArchitecture(backbone=SwinSize())),
}
PRECISIONS = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
FRAMES, WINDOWS, CLASSES, SYNONYMS = 2, 2, 40, 60

WAITS = Counter({"models.shared.text_classifier.TextClassifier.classes": 1})
"""Waits of the host for the device from the frames of the first window to its results on the host, by function. Later
windows have none: the number of classes is asked once. Never add to it lightly: each one lets the device run dry."""


class Black:
    """The frames of `WINDOWS` windows."""

    def __len__(self) -> int:
        return FRAMES * WINDOWS

    def __getitem__(self, frame_index: int, /) -> Image:
        return np.zeros((64, 96, 3), np.uint8)


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
            model: Any = ClipVis(network, ClipVisConfig(window=FRAMES), device="cuda", precision=precision)
        else:
            config = Ov2SegConfig(window=FRAMES)
            model = Ov2Seg(network, lambda _: pytest.fail("asked"), config, device="cuda", precision=precision)
        sizes = model.geometry(64, 96)
        width = network.backbone.embed_dim if isinstance(model, ClipVis) else network.embed_dim
        classifier = text_classifier(width)
        with watch:
            for output in model.outputs(Video(1, "black", 64, 96, Black()), sizes):
                if isinstance(model, ClipVis):
                    output, dense = output
                    ((part, evidence),) = model._classified(output, dense, classifier, None)
                else:
                    ((part, evidence),) = model._classified(output, classifier, None)
                arrived = [HostCopy((output.embeddings,), model.device), HostCopy(evidence, model.device)]

    floats = [evidence[0], output.object_logits, output.mask_logits, output.embeddings]
    assert {(each.device.type, each.dtype) for each in floats} == {("cuda", torch.float32)}
    assert evidence[0].shape == (FRAMES, output.mask_logits.shape[1], CLASSES)
    on_host = [each for copy in arrived for each in tree_leaves(copy.wait())]
    assert {each.device.type for each in on_host} == {"cpu"}
    assert (part, watch.copies) == (slice(0, FRAMES), WINDOWS * (1 + len(on_host)))  # the frames, and the results
    # the pixel decoder stays in float32 but for the values it samples, everything before and behind it is mixed
    assert watch.types["convolution"] == {torch.float32, PRECISIONS[precision]}
    assert watch.waits == WAITS, f"the host waits for the device in {dict(watch.waits)}"

    calls = watch.calls["fused_deformable_attention"]
    assert len(calls) == 6 * WINDOWS
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
        tensor.to("cpu", non_blocking=True)
        torch.empty(2).to("cuda")
        _ = tensor + 1 + torch.tensor(1.0)  # a parameter of the kernel
        assert (sum(watch.waits.values()), watch.copies) == (3, 1)
        torch.tensor(1.0, device="cuda")
        torch.tensor([1, 2], device="cuda")
        tensor[0].copy_(torch.tensor(1.0))
    assert (sum(watch.waits.values()), watch.copies) == (6, 1)
    with FakeTensorMode(), watch, pytest.raises(RuntimeError, match="device"):
        _ = torch.empty(3, device="cuda") + torch.empty(3)
