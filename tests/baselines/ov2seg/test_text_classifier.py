"""Text classifiers: released files, computed ones, and what is refused.

Tests of `baselines/ov2seg/released_classifiers.py`.
"""

from __future__ import annotations

from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from harness.baselines.ov2seg.config import Ov2SegConfig
from harness.baselines.ov2seg.released_classifiers import RELEASED_FILES, digests, read_rows
from harness.baselines.ov2seg.text_classifier import SourcedClassifier, text_classifier
from harness.config import read_config
from harness.errors import UserError
from harness.models.backbones.clip import open_clip
from harness.types import Category, Vocabulary

CPU = torch.device("cpu")
THREE = (Category(2, "cat"), Category(3, "dog, hound"), Category(1, "red_car"))


@pytest.fixture
def rows() -> np.ndarray:
    return np.random.default_rng(0).standard_normal((3, 16)).astype(np.float32)


@pytest.fixture
def file(rows: np.ndarray, tmp_path: Path) -> Path:
    np.save(tmp_path / RELEASED_FILES["lvvis"], rows)
    return tmp_path / RELEASED_FILES["lvvis"]


def classifier(place: Any, dataset: str = "lvvis", categories: tuple[Category, ...] = THREE, cache: Any = None,
               **settings: Any) -> SourcedClassifier:  # fmt: skip
    config = Ov2SegConfig(text_classifier=place, **settings)
    return text_classifier(config, Vocabulary(categories), dataset, 16, CPU, cache or Path("unused"))


@pytest.mark.parametrize("as_folder", [False, True])
def test_rows_follow_category_ids(as_folder: bool, file: Path, rows: np.ndarray) -> None:
    found, source, is_published = classifier(file.parent if as_folder else file)
    unit = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    assert np.allclose(found.weights.numpy(), unit[[1, 2, 0]], atol=1e-6)
    assert found.class_of.tolist() == [0, 1, 2]
    assert source == f"read from {file}"
    assert is_published


def test_names_that_stand_twice_do_not_matter_to_a_file(file: Path) -> None:
    twice = (Category(1, "cat"), Category(2, "cat"), Category(3, "dog"))
    assert classifier(file, categories=twice).classifier.classes == 3


def refused(place: Path, message: str, **options: Any) -> None:
    with pytest.raises(UserError, match=message) as caught:
        classifier(place, **options)
    assert "\n" not in str(caught.value)
    assert str(place) in str(caught.value)


def test_files_of_another_dataset_are_refused(file: Path, tmp_path: Path) -> None:
    refused(file, "has 3 rows.*vocabulary has 2 categories, ids 1 to 2", categories=THREE[::2])
    refused(file, "has 3 rows.*ids 1 to 7", categories=(*THREE[:2], Category(7, "x"), Category(1, "y")))
    refused(tmp_path, "none of the released files is for burst", dataset="burst")
    refused(tmp_path, "does not exist", dataset="ovis")
    refused(tmp_path / "absent.npy", "does not exist")


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (np.zeros((3, 8), np.float32), r"\(3, 8\) where \(categories, 16\)"),
        (np.zeros(3, np.float32), "where"),
        (np.array([[1.0] * 16, [0.0] * 16, [1.0] * 16], np.float32), "row 1: is not a finite direction"),
        (np.full((3, 16), np.nan, np.float32), "row 0: is not a finite direction"),
        (np.ones((3, 16), np.int64), "no array of floating-point numbers"),
        (np.array([["a"] * 16] * 3), "no array of floating-point numbers"),
        (np.array([[{}] * 16] * 3, dtype=object), "is not a .npy file"),
    ],
)
def test_arrays_that_are_no_classifier(array: np.ndarray, message: str, tmp_path: Path) -> None:
    path = tmp_path / "bad.npy"
    np.save(path, array, allow_pickle=True)
    refused(path, message)


def test_archives_are_no_classifier(rows: np.ndarray, tmp_path: Path) -> None:
    np.savez(tmp_path / "archive.npz", rows=rows)
    refused(tmp_path / "archive.npz", "is not a .npy file")


def npy(header: str) -> bytes:
    """A file of a few zeros with this header."""
    text = header.encode("latin1", "replace")
    return b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text + bytes(64)


DESCR = st.sampled_from(["'<f4'", "'<f8'", "'|O'", "'<f2'", "'f'", "[('a', '<f4')]", "'<M8'", "'zz'", "1", "''"])
SHAPE = st.sampled_from(
    ["(3, 16)", "(1, 16)", "(-3, 16)", "(1000000000000, 16)", "(3.0, 16)", "()", "3", "(2**63, 16)", "None"]
)
HEADER = st.builds("{{'descr': {}, 'fortran_order': {}, 'shape': {}, }}".format, DESCR, st.sampled_from("01 "), SHAPE)


@given(content=st.one_of(st.binary(max_size=200), st.text(max_size=60).map(npy), HEADER.map(npy)))
def test_foreign_files(content: bytes, tmp_path_factory: pytest.TempPathFactory) -> None:
    path = tmp_path_factory.getbasetemp() / "foreign.npy"
    path.write_bytes(content)
    with pytest.raises(UserError) as caught:
        read_rows(path, THREE, 16)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize("kept", [0.1, 0.5, 0.99])
def test_truncated_files(kept: float, rows: np.ndarray, tmp_path: Path) -> None:
    buffer = BytesIO()
    np.save(buffer, rows)
    path = tmp_path / "short.npy"
    path.write_bytes(buffer.getvalue()[: int(len(buffer.getvalue()) * kept)])
    refused(path, "is not a .npy file, or a broken one")


def test_computed_with_a_text_tower(clip: Path, tmp_path: Path) -> None:
    settings = {"clip_model": "tiny-vit", "clip_pretrained": str(clip)}
    found, source, is_published = classifier("clip", cache=tmp_path, **settings)
    assert found.weights.shape == (4, 16)
    assert found.class_of.tolist() == [0, 1, 1, 2]  # dog and hound are one class
    assert torch.allclose(found.weights.norm(dim=-1), torch.ones(4))
    assert source == f"computed with the text tower of tiny-vit ({clip})"
    assert not is_published  # LV-VIS has a released file
    assert classifier("clip", dataset="burst", cache=tmp_path, **settings).is_published
    (kept,) = tmp_path.glob("*.safetensors")
    assert torch.equal(classifier("clip", cache=tmp_path, **settings).classifier.weights, found.weights)
    assert list(tmp_path.glob("*.safetensors")) == [kept]


def test_the_tower_is_that_of_open_clip(clip: Path, tmp_path: Path) -> None:
    """One name by hand: fourteen templates, unit, mean, unit; underscores are blanks."""
    from harness.models.shared.text_classifier import PROMPT_TEMPLATES, tokenize

    model = open_clip().create_model("tiny-vit", pretrained=str(clip))
    with torch.no_grad():
        features = model.encode_text(tokenize([t.format("red car") for t in PROMPT_TEMPLATES]))
    expected = torch.nn.functional.normalize(torch.nn.functional.normalize(features, dim=-1).mean(0), dim=-1)
    found = classifier("clip", categories=THREE[2:], cache=tmp_path, clip_model="tiny-vit", clip_pretrained=str(clip))
    assert torch.allclose(found.classifier.weights[0], expected, atol=1e-6)


def test_towers_that_cannot_be_had(clip: Path, tmp_path: Path) -> None:
    for settings, message in (
        ({"clip_model": "no-such"}, "not an open_clip model"),
        ({"clip_model": "tiny-vit", "clip_pretrained": str(tmp_path / "absent.pt")}, "cannot be loaded.*released file"),
    ):
        with pytest.raises(UserError, match=message):
            classifier("clip", **settings)
    config = Ov2SegConfig(clip_model="tiny-vit", clip_pretrained=str(clip))
    with pytest.raises(UserError, match="embeds in 16 dimensions, the checkpoint needs 512"):
        text_classifier(config, Vocabulary(THREE), "lvvis", 512, CPU, tmp_path)


@pytest.mark.parametrize("place", ["clip", Path("some.npy")])
def test_empty_vocabulary(place: Any) -> None:
    with pytest.raises(UserError, match="vocabulary: is empty; name at least one category"):
        classifier(place, categories=())


def test_the_record_of_a_run_says_which(file: Path) -> None:
    def record(*settings: str) -> dict[str, Any]:
        return read_config(Ov2SegConfig, None, settings, "ov2seg").model_dump(mode="json")

    computed = record()
    assert computed["text_classifier"] == "clip"
    assert computed["text_classifier_sha256"] == {}
    assert (computed["clip_model"], computed["clip_pretrained"]) == ("ViT-B-32-quickgelu", "openai")
    from_file = record(f"text_classifier={file}")
    assert from_file["text_classifier"] == file.name  # where it lies is no part of what a run is known by
    assert list(from_file["text_classifier_sha256"]) == [file.name]
    assert record(f"text_classifier={file.parent}")["text_classifier_sha256"] == digests(file)
    before = from_file["text_classifier_sha256"]
    file.write_bytes(file.read_bytes() + b"\n")
    assert record(f"text_classifier={file}")["text_classifier_sha256"] != before


def test_every_setting_is_explained() -> None:
    keys: dict[str, Any] = Ov2SegConfig.model_json_schema()["properties"]
    assert all(key["description"] for key in keys.values())
    assert "text_classifier_sha256" not in keys
