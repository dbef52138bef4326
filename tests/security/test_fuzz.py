"""Readers of untrusted files, on mutated bytes of valid files: a value or a `UserError`, and nothing else.

What carries a checksum is sealed again after the mutation, as an attacker would do it.
"""

from __future__ import annotations

import hashlib
import io
import json
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from hypothesis import given
from hypothesis import strategies as st
from match_populations import make_population
from mutations import error_text, fuzzed, mutated, sealed
from safetensors.torch import save
from small_runs import make_dataset, make_video, truth_of
from vis_documents import box, document, perfect

from harness import rle
from harness.config import read_config
from harness.formats.youtube_vis import annotations_from_document, read_annotations
from harness.models.clipvis.config import ClipVisConfig
from harness.models.shared.checkpoint_files import metadata_of, read_tensors
from harness.run_folder.store import PredictionStore
from harness.scoring.jackknife import replicate
from harness.scoring.match_table import MatchTable, precision_over_recall, read_table, write_table
from harness.scoring.score import score_results, score_store
from harness.types import Track

MARK = b"harness-matches\n"


def annotation_bytes() -> bytes:
    """Annotations with masks of every form."""
    truth = document()
    counts = {"size": [20, 30], "counts": [42, 10, 548]}
    truth["annotations"][0]["segmentations"] = [counts, [[2.0, 2.0, 9.0, 2.0, 9.5, 9.0]]]
    return json.dumps(truth).encode()


def burst_bytes() -> bytes:
    """A BURST file of one sequence with one object."""
    sequence = {
        "id": 1, "dataset": "d", "seq_name": "s", "height": 20, "width": 30, "track_category_ids": {"7": 13},
        "annotated_image_paths": ["frame0001.jpg", "frame0002.jpg"],
        "segmentations": [{"7": {"rle": box(20, 30, 2, 2, 9, 9)["counts"]}}, {}],
    }  # fmt: skip
    categories = [{"id": 13, "name": "apple", "frequency": "c"}, {"id": 4, "name": "airplane"}]
    return json.dumps({"split": "val", "categories": categories, "sequences": [sequence]}).encode()


def scored_against(path: Path) -> None:
    """Read annotations, decode their masks, and score perfect results against them."""
    annotations = read_annotations(path)
    for video in annotations.videos:
        if annotations.truth is not None:
            annotations.truth.tracks_of(video.id)
    results = path.with_suffix(".results")
    results.write_text(json.dumps(perfect(document())))
    score_results("lvvis", annotations, results)


@pytest.mark.parametrize("whole", [annotation_bytes(), burst_bytes()], ids=["youtube_vis", "burst"])
@given(data=st.data())
@fuzzed
def test_annotations(tmp_path: Path, whole: bytes, data: st.DataObject) -> None:
    path = tmp_path / "gt.json"
    path.write_bytes(data.draw(mutated(whole)))
    said = error_text(lambda: scored_against(path))  # a protocol that misses something does not know the file's name
    assert "\n" not in said


@given(mutated(json.dumps(perfect(document())).encode()))
@fuzzed
def test_results(tmp_path: Path, data: bytes) -> None:
    truth, path = annotations_from_document(document(), "gt"), tmp_path / "r.json"
    path.write_bytes(data)
    said = error_text(lambda: score_results("lvvis", truth, path))
    assert said == "" or str(tmp_path) in said


@given(
    mutated(box(20, 30, 2, 2, 9, 9)["counts"].encode()),
    st.sampled_from([rle.COMPRESSED, rle.ESCAPED, rle.LISTED]),
    st.integers(0, 2**31 - 1),
    st.integers(0, 2**31 - 1),
)
@fuzzed
def test_rle(counts: bytes, kind: int, height: int, width: int) -> None:
    one = np.zeros(1, np.int64)
    sizes = np.array([[height], [width]], np.int32)
    text = np.frombuffer(counts, np.uint8)
    found = int(rle.areas(text, one, one + len(counts), np.array([kind], np.int8), *sizes, np.ones(1, np.bool_))[0])
    assert found in rle.RLE_FAULTS or 0 <= found <= height * width
    begin, end = (np.zeros(len(counts) // 2 + 1, np.int32) for _ in range(2))
    assert rle.runs_of(text, 0, len(counts), kind, begin, end, 0) <= (len(counts) + 1) // 2


@cache
def weights_bytes(suffix: str) -> bytes:
    """A small checkpoint; PyTorch's old form (``.pkl``) has other bytes each time it is made."""
    state = {"a.weight": torch.arange(6.0).reshape(2, 3), "a.bias": torch.ones(2, dtype=torch.float16)}
    if suffix == ".safetensors":
        return save(state, {"short_edge": "480"})
    file = io.BytesIO()
    torch.save({"model": state, "epoch": 3}, file, _use_new_zipfile_serialization=suffix == ".pth")
    return file.getvalue()


@pytest.mark.parametrize("suffix", [".safetensors", ".pth", ".pkl"])
@pytest.mark.filterwarnings("ignore")  # PyTorch's, of what it finds in damaged files
@given(data=st.data())
@fuzzed
def test_checkpoints(tmp_path: Path, suffix: str, data: st.DataObject) -> None:
    path = tmp_path / f"weights{suffix}"
    path.unlink(missing_ok=True)  # a new file: what was read before may be mapped into memory
    path.write_bytes(data.draw(mutated(weights_bytes(suffix))))

    def read() -> None:
        metadata_of(path)
        for tensor in read_tensors(path, "give another").values():
            assert tensor.isfinite().sum() >= 0  # every number is touched

    said = error_text(read)
    assert said == "" or str(path) in said


YAML = b"""\
window: &n 4
memory_length: *n
clip_weights: null
short_edge: 0x1e0
long_edge: 1_333
? channels_last
: false
clipvis: {<<: {window: 3}, compile: no}
"""


@given(mutated(YAML) | mutated(yaml.safe_dump(ClipVisConfig().model_dump(mode="json")).encode()))
@fuzzed
def test_yaml(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "config.yaml"
    path.write_bytes(data)
    said = error_text(lambda: read_config(ClipVisConfig, path, model="clipvis", others=("clipvis",)))
    assert said == "" or str(path) in said


@pytest.fixture(scope="module")
def shard(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    store = PredictionStore(tmp_path_factory.mktemp("whole"))
    video = make_video(1)
    store.write_video(video, [Track(1, c, 0.5, (*truth_of(1)[:2], None)) for c in (1, 1, 2)])
    assert sealed(store.path(1).read_bytes()) == store.path(1).read_bytes()
    return store.path(1).read_bytes()


@given(data=st.data())
@fuzzed
def test_parquet_shards(tmp_path: Path, shard: bytes, data: st.DataObject) -> None:
    store = PredictionStore(tmp_path)
    store.path(1).write_bytes(sealed(data.draw(mutated(shard))))
    truth: Any = make_dataset().annotations

    def read() -> None:
        store.read_video(1)
        score_store("lvvis", truth, store)

    said = error_text(read)
    assert said == "" or str(tmp_path) in said


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    path = tmp_path_factory.mktemp("whole") / "matches"
    write_table(path, make_population(0, 6, 3).table(0))
    return path.read_bytes()[len(MARK) + 32 :]


@given(data=st.data())
@fuzzed
def test_match_tables(tmp_path: Path, table: bytes, data: st.DataObject) -> None:
    content, path = data.draw(mutated(table)), tmp_path / "matches"
    path.write_bytes(MARK + hashlib.sha256(content).digest() + content)

    def read() -> None:
        found: MatchTable = read_table(path)
        precision_over_recall(found)
        replicate(found, np.ones((2, len(found.video_ids)), np.int32))

    said = error_text(read)
    assert said == "" or str(path) in said
