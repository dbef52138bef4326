"""Conversion of BURST's form, against the official converter's output."""

from __future__ import annotations

import gzip
import json
import shutil
import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from vis_documents import box

from harness.errors import UserError
from harness.formats.burst import (
    ClassSplit,
    SequenceReader,
    areas_of,
    as_youtube_vis,
    convert_file,
    frame_number,
    read_burst,
)
from harness.formats.segmentations import decode_record
from harness.formats.youtube_vis import NO_FREQUENCY, UNLISTED, read_annotations
from harness.scoring.protocols import get_protocol
from harness.scoring.score import score_results


def test_conversion_is_the_official_one(golden: Path) -> None:
    folder = golden / "burst_convert"
    split = decode_record((folder / "class_split.json").read_bytes(), ClassSplit, "class_split.json")
    converted = as_youtube_vis(read_burst(folder / "all_classes.json"), split, "all_classes.json")
    assert json.loads(json.dumps(converted)) == json.loads((folder / "gt.json").read_text())


def test_the_own_form_is_scored_like_the_converted_file(golden: Path, tmp_path: Path) -> None:
    folder = golden / "burst_convert"
    (tmp_path / "info").mkdir()
    shutil.copy(folder / "class_split.json", tmp_path / "info/class_split.json")
    shutil.copy(folder / "all_classes.json", tmp_path / "all_classes.json")
    own, converted = read_annotations(tmp_path / "all_classes.json"), read_annotations(folder / "gt.json")
    scores = [score_results("burst", a, folder / "results.json").metrics.values for a in (own, converted)]
    assert scores[0] == scores[1]


def test_classes_without_a_split_file_follow_the_challenge(golden: Path, tmp_path: Path) -> None:
    path = tmp_path / "all_classes.json"
    shutil.copy(golden / "burst_convert/all_classes.json", path)
    splits = {c["name"]: c["split"] for c in convert_file(path).document["categories"]}
    assert splits["c13"] == "common"
    assert splits["c3"] == "uncommon"


def test_a_class_in_neither_list_of_the_split_file_is_in_neither_group(tmp_path: Path) -> None:
    (tmp_path / "info").mkdir()
    (tmp_path / "info/class_split.json").write_text(json.dumps({"common": [13], "uncommon": []}))
    assert [c["split"] for c in converted(tmp_path, document())["categories"]] == ["common", "neither"]
    annotations = read_annotations(tmp_path / "all_classes.json")
    assert [(note.kind, note.count) for note in annotations.notes] == [(UNLISTED, 1)]
    (remark,) = annotations.remarks
    assert remark.endswith("class_split.json; the official script lists 78")
    groups = get_protocol("burst").groups(annotations.categories)
    assert (groups["c"], groups["u"], groups["b"]) == ((1,), (), (1, 2))
    results = tmp_path / "results.json"
    results.write_text("[]")
    for protocol, expected in (("burst-corrected", [UNLISTED]), ("ytvis-corrected", [])):
        score = score_results(protocol, annotations, results)
        assert [w["kind"] for w in score.warnings if w["kind"] == UNLISTED] == expected
        assert (remark in [w["kind"] for w in score.warnings]) == bool(expected)
    made = document()
    made["categories"].append({"id": 5000, "name": "nobody's"})
    converted(tmp_path, made)
    annotations = read_annotations(tmp_path / "all_classes.json")
    assert {note.kind: note.count for note in annotations.notes} == {UNLISTED: 2, NO_FREQUENCY: 1}
    assert get_protocol("burst").groups(annotations.categories) == {"b": (1, 2), "n": (), "c": (1,), "u": ()}
    (tmp_path / "info/class_split.json").write_text(json.dumps({"common": [13, 4], "uncommon": [4]}))
    assert [c["split"] for c in converted(tmp_path, document())["categories"]] == ["common", "uncommon"]


@pytest.mark.parametrize(("path", "number"), [("a/frame0030.jpg", 30), ("b/x_y_0007.png", 7), ("12.jpg", 12)])
def test_frame_numbers(path: str, number: int) -> None:
    assert frame_number(path, "a.json") == number


@pytest.mark.parametrize("path", ["seq/first.jpg", "seq/frame.jpg", f"seq/frame{'9' * 40}.jpg"])
def test_a_frame_without_a_number_is_refused(path: str) -> None:
    with pytest.raises(UserError, match=r"a\.json, seq/.* has no frame number"):
        frame_number(path, "a.json")


def document(**changes: Any) -> dict[str, Any]:
    """One sequence of two frames with one object; ``changes`` go to the sequence."""
    seen = {"rle": box(20, 30, 2, 2, 9, 9)["counts"]}
    sequence = {
        "id": 1, "dataset": "d", "seq_name": "s", "height": 20, "width": 30, "track_category_ids": {"7": 13},
        "annotated_image_paths": ["frame0001.jpg", "frame0002.jpg"], "segmentations": [{"7": seen}, {}], **changes,
    }  # fmt: skip
    categories = [{"id": 13, "name": "apple", "frequency": "c"}, {"id": 4, "name": "airplane"}]
    return {"split": "val", "categories": categories, "sequences": [sequence]}


def converted(folder: Path, content: Any) -> dict[str, Any]:
    path = folder / "all_classes.json"
    path.write_bytes(content if isinstance(content, bytes) else json.dumps(content).encode())
    return convert_file(path).document


def test_a_conversion_by_hand(tmp_path: Path) -> None:
    out = converted(tmp_path, document())
    assert [(c["id"], c["name"], c["split"], c["frequency"]) for c in out["categories"]] == [
        (1, "apple", "common", "c"),
        (2, "airplane", "common", "f"),
    ]
    assert out["videos"][0]["file_names"] == ["d/s/frame0001.jpg", "d/s/frame0002.jpg"]
    assert (out["annotations"][0]["id"], out["annotations"][0]["category_id"]) == (0, 1)
    assert out["annotations"][0]["bboxes"] == [[2, 2, 7, 7], None]
    assert out["track_id_mapping"] == {"1": {"7": 1}}


def test_areas_are_those_of_the_masks(tmp_path: Path) -> None:
    converted(tmp_path, document())
    sequence = read_burst(tmp_path / "all_classes.json").sequences[0]
    assert [a.tolist() for a in areas_of(sequence, "here")] == [[49], []]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"height": 0}, "size 0x30"),
        ({"height": 19}, "frame frame0001.jpg, track 7: counts run past the end"),
        ({"segmentations": [{"7": {"rle": "é"}}, {}]}, "frame frame0001.jpg, track 7: counts are not"),
        ({"segmentations": [{"07": {"rle": ""}}, {}]}, 'track "07": is not numbered'),
        ({"track_category_ids": {"9" * 30: 13}}, "is not numbered"),
        ({"track_category_ids": {"7": 5}}, "track 7: category 5 is not listed"),
        ({"annotated_image_paths": ["frame0001.jpg"] * 2}, "frame frame0001.jpg: occurs twice"),
        ({"annotated_image_paths": ["frame0001.jpg"]}, "2 segmentations for 1"),
        ({"annotated_image_paths": ["frame0001.jpg", "last.jpg"]}, "last.jpg: has no frame number"),
        ({"seq_name": None}, "sequences[0].seq_name"),
    ],
)
def test_faulty_sequences_are_refused_by_name(tmp_path: Path, changes: dict[str, Any], words: str) -> None:
    with pytest.raises(UserError) as refusal:
        converted(tmp_path, document(**changes))
    assert words in str(refusal.value)
    assert "\n" not in str(refusal.value)


def test_repeated_sequences_and_categories_are_refused(tmp_path: Path) -> None:
    twice = document()
    with pytest.raises(UserError, match=r"sequence 1 .*occurs twice"):
        converted(tmp_path, {**twice, "sequences": twice["sequences"] * 2})
    with pytest.raises(UserError, match="an id occurs twice"):
        converted(tmp_path, {**twice, "categories": twice["categories"] * 2})
    with pytest.raises(UserError, match=r"categories\[0\]: has no id"):
        converted(tmp_path, {**twice, "categories": [{"name": "apple"}]})


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=4,
)


@given(st.sampled_from(sorted(document()["sequences"][0])), values)
def test_any_other_value_is_converted_or_refused(key: str, value: Any) -> None:
    with tempfile.TemporaryDirectory() as folder:
        refusal, out = "", {}
        try:
            out = converted(Path(folder), document(**{key: value}))
        except UserError as error:
            refusal = error.where
    assert "all_classes.json" in refusal or len(out["videos"]) == 1


@given(st.integers(0, len(json.dumps(document())) - 1))
def test_a_truncated_file_is_refused(length: int) -> None:
    with tempfile.TemporaryDirectory() as folder, pytest.raises(UserError, match=r"all_classes\.json: malformed"):
        converted(Path(folder), json.dumps(document()).encode()[:length])


def in_turn(path: Path, block: int) -> list[Any]:
    reader = SequenceReader(path, block_bytes=block)
    found: list[Any] = list(reader)
    return [*found, reader.split]


@pytest.mark.parametrize("block", [40, 300, 1 << 20])
@pytest.mark.parametrize(
    "text",
    [
        '{"split": "val", "sequences": [%s]}',
        ' { "sequences" : [ %s ] , "categories": [{"id": 1}], "split":"val"}\n',
        '{"about": "\\"sequences\\": [", "split": "val", "more": {"sequences": [1]}, "sequences": [%s]}',
        '{"kind": "sequences", "list": [%s], "split": "val", "sequences": [%s]}',
        '{"split": "val", "sequences": [%s], "sequences": [%s]}',
    ],
)
def test_sequences_in_turn_are_those_of_the_whole_file(tmp_path: Path, text: str, block: int) -> None:
    sequences = [document()["sequences"][0] | {"id": i, "seq_name": f"s{i}"} for i in range(4)]
    listed = ", ".join(json.dumps(one) for one in sequences)
    path = tmp_path / "all_classes.json"
    path.write_text(text.replace("%s", listed))
    whole = read_burst(path)
    assert in_turn(path, block) == [*whole.sequences, whole.split]
    path.write_bytes(gzip.compress(path.read_bytes()))
    assert in_turn(path, block) == [*whole.sequences, whole.split]


@pytest.mark.parametrize(
    "text",
    ["", "[]", "{", '{"sequences": [', '{"sequences": [{}]}', '{"sequences": []}', '{"sequences": [5], "split": "val"}',
     '{"sequences": {}, "split": "val"}', '{"split": "val"}', '{"split": 5, "sequences": []}', '{"sequences": []} x',
     '{"split": "val", "sequences": [\0]}'],
)  # fmt: skip
def test_sequences_in_turn_are_refused_as_in_the_whole_file(tmp_path: Path, text: str) -> None:
    path = tmp_path / "all_classes.json"
    path.write_text(text)
    refusals = []
    for reading in (lambda: read_burst(path), lambda: list(SequenceReader(path))):
        with pytest.raises(UserError) as refusal:
            reading()
        refusals.append(str(refusal.value))
    assert refusals[0] == refusals[1]
