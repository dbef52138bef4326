"""Full-size networks on a pretended CUDA device: no mixing of devices, the right types, no new wait for the device.

No GPU takes part and no number is computed; see ``fake_cuda``.
"""

from __future__ import annotations

from collections import Counter
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from fake_cuda import Watch, put_on_fake_cuda
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._pytree import tree_leaves

from harness.baselines.ov2seg.config import Ov2SegConfig
from harness.baselines.ov2seg.model import Ov2Seg
from harness.baselines.ov2seg.network import Ov2SegArchitecture, Ov2SegNetwork
from harness.baselines.ov2seg.scoring import VideoScores
from harness.frames import Image
from harness.models.backbones.swin import SwinSize
from harness.models.clipvis.config import ClipVisConfig
from harness.models.clipvis.model import ClipVis
from harness.models.clipvis.network import ClipVisArchitecture, ClipVisNetwork
from harness.models.clipvis.postprocess import TrackScoreAccumulator
from harness.models.shared.mask_buffer import MaskBuffer
from harness.models.shared.text_classifier import TextClassifier
from harness.types import Video, Vocabulary

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


@pytest.mark.parametrize(("precision", "padding"), [*((each, True) for each in PRECISIONS), ("fp32", False)])
def test_windows_on_cuda(network: Any, precision: str, padding: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """All that is done with a video's windows; without ``padding`` the parts that are off by default, too."""
    # autocast asks whether there is a CUDA device that can do it
    monkeypatch.setattr(torch.cuda.amp.common, "amp_definitely_not_available", lambda: False)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda *_, **__: True)
    monkeypatch.setattr(network, "to", lambda *_, **__: network)
    watch = Watch(number=CLASSES - 1)
    scores, outputs = list[Any](), list[Any]()
    for accumulator in (TrackScoreAccumulator, VideoScores):  # there are no numbers to add; no frames, so no tracks
        monkeypatch.setattr(accumulator, "add", lambda _, order, found: scores.append((order, found)))
    with FakeTensorMode(allow_non_fake_inputs=True), torch.no_grad():
        put_on_fake_cuda(network)
        if isinstance(network, ClipVisNetwork):
            clipvis = ClipVisConfig(window=FRAMES, padding_counts=padding)
            model: Any = ClipVis(network, clipvis, device="cuda", precision=precision)
        else:
            ov2seg = Ov2SegConfig(window=FRAMES, padding_counts=padding, remember_absent_frames=padding)
            model = Ov2Seg(network, lambda _: pytest.fail("asked"), ov2seg, device="cuda", precision=precision)
            model._tell_source = lambda: None
        classifier = text_classifier(network.backbone.embed_dim if isinstance(model, ClipVis) else network.embed_dim)
        forward, matched = model.forward, list[Tensor]()
        model.text_classifier = lambda vocabulary: classifier
        model.matcher = lambda: SimpleNamespace(match=lambda *found: matched.extend(found) or in_order(*found))
        model.forward = lambda frames, sizes: outputs.append(forward(frames, sizes)) or outputs[-1]
        model.overlap = False  # fake tensors are known to one thread
        monkeypatch.setattr(MaskBuffer, "of", lambda *_: pytest.fail("no track is chosen"))
        with watch:
            assert model._predict(Video(1, "black", 64, 96, Black()), Vocabulary(()), model.geometry(64, 96)) == []

    assert (len(outputs), len(scores)) == (WINDOWS, WINDOWS)
    output = outputs[0][0] if isinstance(model, ClipVis) else outputs[0]
    floats = [output.object_logits, output.mask_logits, output.embeddings]
    assert {(each.device.type, each.dtype) for each in floats} == {("cuda", torch.float32)}
    order, found = scores[0]
    assert found[0].shape == (FRAMES, output.mask_logits.shape[1], CLASSES)
    on_host = [*matched, *(each for _, found in scores for each in tree_leaves(found))]
    assert {each.device.type for each in (order, *on_host)} == {"cpu"}
    assert watch.copies == WINDOWS + len(on_host)  # the frames, and the results
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


def in_order(embeddings: Tensor, *present: Tensor) -> Tensor:
    """Stands in for matching, which depends on numbers: the queries as they are."""
    return torch.arange(embeddings.shape[1]).expand(embeddings.shape[:2])


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
        chosen = tensor > 0
        tensor[chosen] = 1.0  # filled where the mask is set: no size depends on numbers
        assert sum(watch.waits.values()) == 6
        tensor[chosen] = torch.empty(3, device="cuda")
    assert (sum(watch.waits.values()), watch.copies) == (7, 1)
    for size_or_number in (lambda t: t[t > 0], lambda t: t.nonzero(), lambda t: torch.equal(t, t), torch.unique):
        with FakeTensorMode(), watch, pytest.raises((RuntimeError, NotImplementedError)):
            size_or_number(torch.empty(3, device="cuda"))
    with FakeTensorMode(), watch, pytest.raises(RuntimeError, match="device"):
        _ = torch.empty(3, device="cuda") + torch.empty(3)
