"""Results and annotations in archives, encodings and lines: the same numbers; what is something else is named."""

from __future__ import annotations

import bz2
import gzip
import io
import json
import lzma
import pickle
import zipfile
from pathlib import Path
from typing import Any

import pytest
from vis_documents import document, perfect

from harness.errors import UserError
from harness.formats import containers
from harness.formats.youtube_vis import read_annotations
from harness.scoring.score import score_results


def zipped(text: bytes, *names: str) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        for name in names or ("results.json",):
            archive.writestr(name, text)
    return out.getvalue()


def lines(text: bytes) -> bytes:
    return b"\n".join(json.dumps(one).encode() for one in json.loads(text))


PACKED = {
    "plain": lambda text: text,
    "space first": lambda text: b" \r\n" + text,
    "gzip": gzip.compress,
    "zip": zipped,
    "zip of a folder": lambda text: zipped(text, "a/", "a/b.json"),
    "zip from a Mac": lambda text: zipped(text, "results.json", "__MACOSX/._results.json"),
    "zip with a path that leads out": lambda text: zipped(text, "../../results.json"),
    "utf-8 with a mark": lambda text: b"\xef\xbb\xbf" + text,
    "utf-16": lambda text: text.decode().encode("utf-16"),
    "utf-16-be without a mark": lambda text: text.decode().encode("utf-16-be"),
    "utf-32": lambda text: text.decode().encode("utf-32"),
    "utf-32-le without a mark": lambda text: text.decode().encode("utf-32-le"),
    "gzip of utf-16": lambda text: gzip.compress(text.decode().encode("utf-16")),
}
LINES = {
    "lines": lines,
    "lines with empty ones": lambda text: b"\n" + lines(text).replace(b"\n", b"\r\n\r\n") + b"\n",
    "gzip of lines": lambda text: gzip.compress(lines(text)),
    "one line": lambda text: lines(text).splitlines()[0],
}


def score(folder: Path, truth: bytes, results: bytes) -> Any:
    (folder / "gt.json").write_bytes(truth)
    (folder / "r.json").write_bytes(results)
    record = score_results("lvvis", read_annotations(folder / "gt.json"), folder / "r.json").record()
    return record["metrics"], record["warnings"]


@pytest.fixture
def texts() -> tuple[bytes, bytes]:
    truth = document()
    truth["categories"][0]["name"] = "猫 🐈"
    return json.dumps(truth, ensure_ascii=False).encode(), json.dumps(perfect(truth)).encode()


@pytest.mark.parametrize("form", PACKED)
def test_the_same_numbers_from_every_form(tmp_path: Path, texts: tuple[bytes, bytes], form: str) -> None:
    plain = score(tmp_path, *texts)
    assert score(tmp_path, PACKED[form](texts[0]), PACKED[form](texts[1])) == plain
    assert [c.name for c in read_annotations(tmp_path / "gt.json").categories] == ["猫 🐈", "yak"]
    assert {path.name for path in tmp_path.iterdir()} == {"gt.json", "r.json"}


@pytest.mark.parametrize("form", LINES)
def test_results_in_lines(tmp_path: Path, texts: tuple[bytes, bytes], form: str) -> None:
    results = b"[" + lines(texts[1]).splitlines()[0] + b"]" if form == "one line" else texts[1]
    assert score(tmp_path, texts[0], LINES[form](texts[1])) == score(tmp_path, texts[0], results)


@pytest.mark.parametrize(("content", "words"), [
    (zipped(b"[]", "a.json", "b.json"), "a zip with 2 JSON files ('a.json', 'b.json')"),
    (zipped(b"[]", "a.txt", "b.txt"), "a zip without a JSON file"),
    (zipped(zipped(b"[]")), "an archive in an archive"),
    (zipped(b"[]" * 99)[:-40], "damaged or cut short"),
    (gzip.compress(b"[]" * 99)[:-9], "damaged or cut short"),
    (gzip.compress(b"[]")[:-6] + b"123456", "damaged or cut short"),
    (bz2.compress(b"[]"), "a bzip2 file"),
    (lzma.compress(b"[]"), "an xz file"),
    (pickle.dumps([]), "a Python pickle"),
    (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "a Git LFS pointer"),
    (b"\n<!DOCTYPE html><html>", "a web page"),
    (gzip.compress(b"<html>"), "a web page"),
    (b"\0" * 257 + b"ustar", "a tar archive"),
    (b"\xff\xfe[\0\0\xd8", "not valid text in UTF-16"),
    (b"PAR1", "a Parquet file"),
])  # fmt: skip
def test_other_files_are_named(tmp_path: Path, texts: tuple[bytes, bytes], content: bytes, words: str) -> None:
    with pytest.raises(UserError) as refusal:
        score(tmp_path, content, texts[1])
    assert f"{tmp_path / 'gt.json'}: " in str(refusal.value)
    assert words in str(refusal.value)
    with pytest.raises(UserError) as refusal:
        score(tmp_path, texts[0], content)
    assert f"{tmp_path / 'r.json'}: " in str(refusal.value)
    assert words in str(refusal.value)


@pytest.mark.parametrize("pack", [gzip.compress, zipped])
def test_what_unpacks_to_far_too_much_is_refused(
    tmp_path: Path, texts: tuple[bytes, bytes], monkeypatch: pytest.MonkeyPatch, pack: Any
) -> None:
    monkeypatch.setattr(containers, "FREE_BYTES", 1 << 16)
    bomb = pack(b" " * (8 << 20) + texts[1])
    for truth, results in ((bomb, texts[1]), (texts[0], bomb)):
        with pytest.raises(UserError, match="unpack to more than"):
            score(tmp_path, truth, results)


@pytest.mark.parametrize(("content", "words"), [
    ({"sequences": []}, "BURST's own form; score it with protocol burst-"),
    ({"det_bboxes": [], "det_masks": []}, "mmtracking"),
    (document(), "an annotation file, not a results file; give it as annotations"),
    ({"predictions": []}, 'a list under "predictions"'),
    ([[{"bbox": [1, 2, 3, 4]}]], "a list of lists"),
    ([{"image_id": 1, "category_id": 1, "bbox": [1, 2, 3, 4], "score": 1}], "record 0: holds one frame"),
])  # fmt: skip
def test_results_of_other_forms_are_named(tmp_path: Path, texts: tuple[bytes, bytes], content: Any, words: str) -> None:
    with pytest.raises(UserError) as refusal:
        score(tmp_path, texts[0], json.dumps(content).encode())
    assert words in str(refusal.value)


IMAGES = [{"id": 1, "video_id": 1, "frame_id": 0, "file_name": "a/0.jpg", "height": 4, "width": 4}]
PER_IMAGE = [{"id": 1, "image_id": 1, "video_id": 1, "category_id": 1, "segmentation": [], "bbox": [0, 0, 1, 1]}]


@pytest.mark.parametrize(("changes", "words"), [
    ({"images": IMAGES, "annotations": PER_IMAGE}, "CocoVID form"),
    ({"images": IMAGES, "annotations": PER_IMAGE, "tracks": []}, "TAO's form"),
    ({"images": IMAGES, "annotations": PER_IMAGE, "videos": ...}, "a COCO file of images, without videos"),
    ({"videos": ...}, "lacks videos"),
])  # fmt: skip
def test_annotations_of_other_forms_are_named(
    tmp_path: Path, texts: tuple[bytes, bytes], changes: dict[str, Any], words: str
) -> None:
    truth = {key: value for key, value in (document() | changes).items() if value is not ...}
    with pytest.raises(UserError) as refusal:
        score(tmp_path, json.dumps(truth).encode(), texts[1])
    assert words in str(refusal.value)
    with pytest.raises(UserError, match="is a results file, not an annotation file; give it as predictions"):
        score(tmp_path, texts[1], texts[1])
