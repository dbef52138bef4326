"""What claims to be huge is refused before memory is spent on it: every case here would take far more than it may."""

from __future__ import annotations

import json
import struct
import zipfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from mutations import error_text, sealed
from pydantic import BaseModel
from small_runs import make_video
from vis_documents import document, perfect

from harness.config import read_config
from harness.formats import youtube_vis
from harness.formats.youtube_vis import annotations_from_document, read_annotations
from harness.image_files import ImageFrames
from harness.models.shared.checkpoint_files import read_tensors
from harness.run_folder import store as shards
from harness.run_folder.store import PredictionStore
from harness.scoring.score import score_results
from harness.video_file import open_video


def changed(**video: Any) -> dict[str, Any]:
    truth = document()
    truth["videos"][0] |= video
    return truth


def refusal(path: Path, content: Any) -> str:
    path.write_text(json.dumps(content))
    return error_text(lambda: read_annotations(path))


@pytest.mark.parametrize("size", [{"height": 10**9}, {"width": 2**31}, {"height": 2**16, "width": 2**15}])
def test_frames_of_absurd_size_in_annotations(tmp_path: Path, size: dict[str, int]) -> None:
    assert "is not a frame's" in refusal(tmp_path / "gt.json", changed(**size))


def test_a_video_of_absurd_length_costs_nothing(tmp_path: Path) -> None:
    truth = changed(length=10**15)
    del truth["videos"][0]["file_names"]
    (tmp_path / "gt.json").write_text(json.dumps(truth))
    assert error_text(lambda: read_annotations(tmp_path / "gt.json")) == ""


def test_outlines_of_absurd_length(tmp_path: Path) -> None:
    truth = document()
    truth["annotations"][1]["segmentations"][1] = [[0, 0, 999999, 0] * 3000]
    assert "annotation 2, frame 1: the outline of its polygons is longer" in refusal(tmp_path / "gt.json", truth)


def test_many_polygons_that_fill_large_frames_are_refused_together(tmp_path: Path, monkeypatch: Any) -> None:
    """Each fits its bound, as one in a frame of 46,000 pixels that takes 2 MB when it is drawn."""
    monkeypatch.setattr(youtube_vis, "_ALL_OUTLINES", 10_000)
    truth = document(frames=6, size=(2000, 2000))
    line = [[0, 0, 1999, 0, 1999, 3, 0, 3]]
    for part, words in (
        (line, ""),
        ([[x * (1 if x < 1999 else 100) for x in line[0]]], "frame 0: the outlines of the"),
    ):
        truth["annotations"][0]["segmentations"] = [part, *[None] * 5]
        truth["annotations"][1]["segmentations"] = [None] * 6
        if words:
            assert words in refusal(tmp_path / "gt.json", truth)
        else:
            annotations_from_document(truth, "gt")


@pytest.mark.parametrize("counts", [[2**31 - 1, 1], [2**32, 1], "l" * 6 + "1"])
def test_masks_of_absurd_size(tmp_path: Path, counts: Any) -> None:
    truth = document()
    truth["annotations"][0]["segmentations"][0] = {"size": [2**16, 2**15], "counts": counts}
    path = tmp_path / "gt.json"
    path.write_text(json.dumps(truth))
    assert "annotation 1, frame 0" in error_text(lambda: read_annotations(path).truth.tracks_of(1))  # type: ignore[union-attr]


def test_results_that_are_one_long_string(tmp_path: Path) -> None:
    truth, path = annotations_from_document(document(), "gt"), tmp_path / "r.json"
    path.write_bytes(b'[{"a": "' + b"x" * (4 << 20))
    assert "record 0: the file ends inside it" in error_text(lambda: score_results("lvvis", truth, path))


def test_results_with_masks_of_absurd_size(tmp_path: Path) -> None:
    truth, path = annotations_from_document(document(), "gt"), tmp_path / "r.json"
    results = perfect(document())
    results[0]["segmentations"] = [{"size": [999999999, 999999999], "counts": "l" * 6 + "1"}] * 2
    path.write_text(json.dumps(results))
    assert "record 0, frame 0: counts" in error_text(lambda: score_results("lvvis", truth, path))


def png(width: int, height: int) -> bytes:
    """A PNG of a few bytes that claims any size."""

    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"\0")) + chunk(b"IEND", b"")


@pytest.mark.parametrize("stated", [(20, 30), (40_000, 50_000)])
def test_an_image_bomb(tmp_path: Path, stated: tuple[int, int]) -> None:
    (tmp_path / "0.png").write_bytes(png(50_000, 40_000))
    frames = ImageFrames(tmp_path, ["0.png"], *stated, video="7")
    assert "0.png (video 7, frame 0)" in error_text(lambda: frames[0])


def test_an_image_bomb_as_the_first_of_a_folder(tmp_path: Path) -> None:
    (tmp_path / "0.png").write_bytes(png(50_000, 40_000))
    assert "0.png: frame is truncated or broken (Image size" in error_text(lambda: open_video(tmp_path))


class Threshold(BaseModel):
    """A configuration of one number."""

    threshold: float = 0.5


@pytest.mark.parametrize("inner", ["[{}]", "{{<<: [{}]}}", "{{a: [{}]}}"])
def test_aliases_of_aliases(tmp_path: Path, inner: str) -> None:
    lines = ["a0: &a0 {x: 1}"]
    lines += [f"a{i}: &a{i} " + inner.format(", ".join([f"*a{i - 1}"] * 9)) for i in range(1, 12)]
    path = tmp_path / "c.yaml"
    path.write_text("\n".join([*lines, "threshold: *a11"]))
    assert "with aliases expanded" in error_text(lambda: read_config(Threshold, path))


@pytest.mark.parametrize("value", [":".join(["59"] * 50_000), "0x" + "f" * 900_000, "x" * (2 << 20)])
def test_numbers_and_files_without_end(tmp_path: Path, value: str) -> None:
    path = tmp_path / "c.yaml"
    path.write_text(f"threshold: {value}")
    assert "is longer than" in error_text(lambda: read_config(Threshold, path))


def test_a_long_text_that_aliases_repeat(tmp_path: Path) -> None:
    path = tmp_path / "c.yaml"
    path.write_text(f"a: &a {'x' * 100_000}\nthreshold: [{', '.join(['*a'] * 50_000)}]")
    assert "with aliases expanded" in error_text(lambda: read_config(Threshold, path))


def test_a_safetensors_header_that_lies(tmp_path: Path) -> None:
    path = tmp_path / "w.safetensors"
    tensor = {"dtype": "F32", "shape": [1 << 40], "data_offsets": [0, 1 << 42]}
    header = json.dumps({"a": tensor}).encode()
    for length in (len(header), 1 << 40, (1 << 64) - 1):
        path.write_bytes(struct.pack("<Q", length) + header)
        assert "not a safetensors file" in error_text(lambda: read_tensors(path, "give another"))


def test_a_checkpoint_that_is_larger_unpacked(tmp_path: Path) -> None:
    plain, packed = tmp_path / "plain.pth", tmp_path / "packed.pth"
    torch.save({"a": torch.zeros(1 << 20)}, plain)
    with zipfile.ZipFile(plain) as source, zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as target:
        for name in source.namelist():
            target.writestr(name, source.read(name))
    assert packed.stat().st_size < 1 << 14
    assert "compressed" in error_text(lambda: read_tensors(packed, "give another"))


@pytest.mark.parametrize(
    ("tensor", "what"),
    [
        (torch.zeros(1, dtype=torch.float16).expand(1 << 40), "larger than the file"),
        (torch.empty(1 << 40, device="meta"), "not a plain tensor"),
        (torch.eye(3).to_sparse(), "not a plain tensor"),
    ],
)
@pytest.mark.filterwarnings("ignore")  # PyTorch's, of sparse tensors
def test_tensors_that_claim_more_than_the_file_holds(tmp_path: Path, tensor: torch.Tensor, what: str) -> None:
    path = tmp_path / "w.pth"
    torch.save({"weight": tensor}, path)
    assert f"w.pth: weight {'states a size ' if what[0] == 'l' else 'is '}{what}" in error_text(
        lambda: read_tensors(path, "give another")
    )


SCHEMA = shards.schema()


def forged(folder: Path, table: pa.Table) -> PredictionStore:
    """A store whose shard of video 1 has any table, under a sound checksum."""
    store = PredictionStore(folder)
    store.write_video(make_video(1), [])
    metadata = {"format": "harness-predictions-1", "video_id": "1", "checksum": "sha256=" + "0" * 64}
    with pq.ParquetWriter(store.path(1), table.schema, store_schema=False, write_statistics=False) as writer:
        writer.write_table(table)
        writer.add_key_value_metadata(metadata)
    store.path(1).write_bytes(sealed(store.path(1).read_bytes()))
    return store


def rows(n: int, schema: pa.Schema = SCHEMA, **columns: Any) -> pa.Table:
    plain = {f.name: pa.array(np.zeros(n), f.type) for f in schema if f.name not in ("masks", *columns)}
    masks = {} if "masks" in columns else {"masks": pa.array([[]] * n, SCHEMA.field("masks").type)}
    return pa.table({f.name: {**plain, **masks, **columns}[f.name] for f in schema}, schema=schema)


def test_a_shard_of_too_many_tracks(tmp_path: Path) -> None:
    store = forged(tmp_path, rows((1 << 20) + 1))
    assert store.path(1).stat().st_size < 1 << 16  # each would be some hundred times larger in memory
    assert "declares more than a shard holds" in error_text(lambda: store.read_table(1))


@pytest.mark.parametrize("name", ["category_id", "height"])
def test_a_shard_with_a_column_of_another_type(tmp_path: Path, name: str) -> None:
    schema = SCHEMA.set(SCHEMA.get_field_index(name), pa.field(name, pa.int16()))
    store = forged(tmp_path, rows(3, schema))
    assert "is not a shard of predictions: it has other columns" in error_text(lambda: store.read_table(1))


def test_a_shard_with_a_track_without_score(tmp_path: Path) -> None:
    store = forged(tmp_path, rows(2, score=pa.array([0.5, None], pa.float64())))
    assert "lack a value" in error_text(lambda: store.read_table(1))
