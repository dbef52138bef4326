"""The released architectures from frames to tracks, and on a still image, against golden values.

Needs HARNESS_GOLDEN: these vectors are too large for the tree, and the networks take seconds to build.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from itertools import groupby, pairwise

import clipvis_golden
import numpy as np
import pytest
import torch
import weight_recipe
from pycocotools import mask as coco

from harness.masks import Rle
from harness.models.clipvis.checkpoint import load_state
from harness.models.clipvis.config import ClipVisConfig
from harness.models.clipvis.model import ClipVis
from harness.models.clipvis.network import ClipVisArchitecture, ClipVisNetwork
from harness.models.shared.preprocess import geometry, resize
from harness.types import Category, Video, Vocabulary

Networks = Callable[[str], ClipVisNetwork]


@pytest.fixture(scope="module")
def network() -> Iterator[Networks]:
    @functools.cache
    def build(kind: str) -> ClipVisNetwork:
        with torch.device("meta"):
            empty = ClipVisNetwork(ClipVisArchitecture({"rn50": "RN50", "convnext_b": "convnext_base_w_320"}[kind]))
        return load_state(empty, weight_recipe.state(empty.state_dict()))

    yield build
    build.cache_clear()


def vocabulary(name: str) -> Vocabulary:
    return Vocabulary(tuple(Category(i, text) for i, text in enumerate(clipvis_golden.facts(name)["classes"], 1)))


def ranked(scores: list[float], labels: list[int]) -> list[int]:
    """Positions by score; scores that are equal but for rounding (empty masks have uniform classes) by label."""
    order = sorted(range(len(scores)), key=lambda i: -scores[i])
    steps = [scores[a] - scores[b] > 2e-6 for a, b in pairwise(order)]
    level = np.cumsum([0, *steps])
    tied = groupby(zip(level, order, strict=True), key=lambda pair: pair[0])
    return [i for _, group in tied for i in sorted((i for _, i in group), key=lambda i: labels[i])]


def iou(rle: Rle, expected: dict[str, object]) -> float:
    found = {"size": list(rle.size), "counts": rle.counts}
    if not coco.area(found) and not coco.area(expected):
        return 1.0
    return float(coco.iou([found], [expected], [False])[0, 0])


@pytest.mark.parametrize("name", clipvis_golden.cases("g_e2e_"))
@torch.no_grad()
def test_video(name: str, network: Networks) -> None:
    golden, facts = clipvis_golden.tensors(name), clipvis_golden.facts(name)
    frames = golden["frames"].numpy()
    config = ClipVisConfig(
        short_edge=facts["min_size_test"],
        long_edge=facts["max_size_test"],
        detections_per_video=facts["topk"],
        memory_length=facts["T"],
        topk=facts["K"],
    )
    model = ClipVis(network(name.removeprefix("g_e2e_")[:-2]), config)
    sizes = geometry(*frames.shape[1:3], facts["min_size_test"], config.long_edge)
    resized = [resize(frame, sizes.resized) for frame in frames]
    assert np.array_equal(np.stack(resized), golden["resized"].numpy())

    classifier = model.text_classifier(vocabulary(name))
    clipvis_golden.close(classifier.weights, golden["text_classifier"], atol=1e-5)
    output, _ = model.forward(resized, sizes)
    clipvis_golden.close(output.object_logits, golden["pred_object_logits"], atol=2e-3)
    clipvis_golden.close(output.ious, golden["pred_ious"], atol=2e-3)
    clipvis_golden.close(output.embeddings, golden["pred_embds"], atol=2e-3)
    half = golden["pred_masks"].dtype == torch.float16
    clipvis_golden.close(output.mask_logits, golden["pred_masks"], *((1e-2, 2e-3) if half else (2e-3,)))
    order = model.matcher().match(output.embeddings)
    assert torch.equal(order, golden["indices"])
    logits = model.classify(resized, classifier, sizes)[torch.arange(len(order))[:, None], order]
    clipvis_golden.close(logits, golden["cls_logits"], atol=2e-3)

    tracks = model.predict(Video(1, name, *frames.shape[1:3], list(frames)), vocabulary(name))
    labels = golden["labels"].tolist()
    theirs = ranked(golden["scores"].tolist(), labels)
    mine = ranked([track.score for track in tracks], [track.category_id for track in tracks])
    clipvis_golden.close(torch.tensor([tracks[i].score for i in mine]), golden["scores"][theirs], atol=2e-4)
    assert [tracks[i].category_id - 1 for i in mine] == [labels[i] for i in theirs]
    written = clipvis_golden.results(name)
    results = ranked([track["score"] for track in written], [track["category_id"] for track in written])
    for i, j in zip(mine, results, strict=True):
        assert all(
            iou(rle, expected) >= 0.99
            for rle, expected in zip(tracks[i].masks, written[j]["segmentations"], strict=True)
        )


@pytest.mark.parametrize("name", clipvis_golden.cases("k_image_"))
def test_image(name: str, network: Networks) -> None:
    golden, facts = clipvis_golden.tensors(name), clipvis_golden.facts(name)
    frame = golden["frame"].numpy()
    config = ClipVisConfig(short_edge=facts["min_size_test"])
    sizes = geometry(*frame.shape[:2], facts["min_size_test"], config.long_edge)
    assert np.array_equal(resize(frame, sizes.resized), golden["resized"].numpy())
    model = ClipVis(network(name.removeprefix("k_image_")), config)
    found = model.predict_image(frame, vocabulary(name), facts["topk"])
    labels = golden["labels"].tolist()
    mine, theirs = ranked([d.score for d in found], [d.label for d in found]), ranked(golden["scores"].tolist(), labels)
    clipvis_golden.close(torch.tensor([found[i].score for i in mine]), golden["scores"][theirs], atol=2e-4)
    assert [found[i].label for i in mine] == [labels[i] for i in theirs]
    for i, j in zip(mine, theirs, strict=True):
        expected = coco.encode(np.asfortranarray(golden["masks"][j].numpy()))
        assert iou(found[i].mask, expected) >= 0.99
