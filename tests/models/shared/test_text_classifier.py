"""Names to unit embeddings: tokens and embeddings against golden values, synonyms, the cache, bad vocabularies."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import clipvis_golden
import pytest
import torch
from torch import Tensor

from harness.errors import UserError
from harness.models.backbones.clip import ClipBackbone
from harness.models.clipvis.network import ClipVisNetwork
from harness.models.shared.text_classifier import (
    PROMPT_TEMPLATES,
    build_text_classifier,
    cached_text_classifier,
    encode_prompts,
    prompts_of,
    synonyms_of,
    tokenize,
    tower_digest,
)


@pytest.mark.parametrize("name", clipvis_golden.cases("f_text_"))
def test_golden(name: str, backbone: Callable[[str], ClipBackbone]) -> None:
    golden, classes = clipvis_golden.tensors(name), clipvis_golden.facts(name)["classes"]
    prompts = [p for one in classes for synonym in synonyms_of(one) for p in prompts_of(synonym)]
    assert torch.equal(tokenize(prompts), golden["tokens"])
    clip = backbone(name.removeprefix("f_text_"))
    features = torch.cat(list(encode_prompts(clip, prompts, "cpu")))
    clipvis_golden.close(features, golden["text_features"], atol=1e-4, rtol=1e-3)

    by_tokens = {tuple(row): feature for row, feature in zip(golden["tokens"].tolist(), features, strict=True)}

    class Known:
        """Gives the features that were computed above, by their tokens."""

        def encode_text(self, tokens: Tensor) -> Tensor:
            return torch.stack([by_tokens[tuple(row)] for row in tokens.tolist()])

    classifier = build_text_classifier(Known(), classes)
    clipvis_golden.close(classifier.weights, golden["text_classifier"], atol=1e-5)
    assert torch.bincount(classifier.class_of).tolist() == golden["num_templates"].tolist()


def test_synonyms_are_split_at_commas_and_kept_as_they_are() -> None:
    assert synonyms_of("sail_boat,yacht, dinghy") == ["sail_boat", "yacht", "dinghy"]
    assert synonyms_of("flip-flop_(sandal)") == ["flip-flop_(sandal)"]
    assert synonyms_of("flip-flop_(sandal)", clean=True) == ["flip-flop sandal"]


def test_long_names_keep_the_end_token() -> None:
    tokens = tokenize(["cat " * 100])
    assert tokens.shape == (1, 77)
    assert (tokens[0, 0].item(), tokens[0, -1].item()) == (49406, 49407)


def test_templates_are_fourteen() -> None:
    assert len(set(PROMPT_TEMPLATES)) == 14
    assert all(template.count("{}") == 1 for template in PROMPT_TEMPLATES)


@pytest.mark.parametrize(
    ("names", "said"),
    [
        ([], "is empty"),
        (["cat", "dog", "cat"], '"cat" is repeated'),
        (["cat", " "], "empty name"),
        (["a,,b"], "empty"),
    ],
)
def test_bad_vocabularies(names: list[str], said: str, tiny: ClipVisNetwork) -> None:
    with pytest.raises(UserError, match=said):
        build_text_classifier(tiny.backbone, names)


def test_cache_by_weights_names_and_flag(tiny: ClipVisNetwork, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clip, digest = tiny.backbone, tower_digest(tiny.backbone)
    first = cached_text_classifier(tmp_path, digest, clip, ["cat", "red_car,van"])
    for other in (("x", ["cat", "red_car,van"], False), (digest, ["red_car,van", "cat"], False)):
        cached_text_classifier(tmp_path, other[0], clip, other[1], clean=other[2])
    cached_text_classifier(tmp_path, digest, clip, ["cat", "red_car,van"], clean=True)
    assert len(list(tmp_path.iterdir())) == 4

    def refuse(self: ClipBackbone, tokens: Tensor) -> Tensor:
        raise AssertionError("the cache was not used")

    monkeypatch.setattr(ClipBackbone, "encode_text", refuse)
    again = cached_text_classifier(tmp_path, digest, clip, ["cat", "red_car,van"])
    assert torch.equal(first.weights, again.weights)
    assert torch.equal(first.class_of, again.class_of)


def test_what_other_threads_have_embedded_is_not_taken_from_the_cache(tiny: ClipVisNetwork, tmp_path: Path) -> None:
    before = torch.get_num_threads()
    try:
        for threads in (1, 2, 1):
            torch.set_num_threads(threads)
            cached_text_classifier(tmp_path, "d", tiny.backbone, ["cat"])
    finally:
        torch.set_num_threads(before)
    assert len(list(tmp_path.iterdir())) == 2


def test_a_broken_cache_entry_is_built_anew(tiny: ClipVisNetwork, tmp_path: Path) -> None:
    first = cached_text_classifier(tmp_path, "d", tiny.backbone, ["cat"])
    (path,) = tmp_path.iterdir()
    path.write_bytes(b"not safetensors")
    assert torch.equal(cached_text_classifier(tmp_path, "d", tiny.backbone, ["cat"]).weights, first.weights)


def test_a_cache_that_cannot_be_read_or_written_changes_nothing(
    tiny: ClipVisNetwork, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = cached_text_classifier(tmp_path / "cache", "d", tiny.backbone, ["cat"])
    (tmp_path / "file").touch()
    for folder in (tmp_path / "file", tmp_path / "file" / "cache"):  # no folder can be made there
        assert torch.equal(cached_text_classifier(folder, "d", tiny.backbone, ["cat"]).weights, first.weights)

    def closed(path: Path) -> bool:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(Path, "is_file", closed)  # as in a home of another user
    assert torch.equal(cached_text_classifier(tmp_path / "cache", "d", tiny.backbone, ["cat"]).weights, first.weights)
