"""Documents written in another way give the same numbers, with one warning per kind of it."""

from __future__ import annotations

import copy
import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from vis_documents import document, perfect

from harness.convert.youtube_vis import read_truth
from harness.datasets.youtube_vis_format import open_custom
from harness.errors import UserError
from harness.formats.lenient import number_ids, whole
from harness.formats.youtube_vis import (
    ANNOTATION_OF_UNKNOWN_CATEGORY,
    ANNOTATION_OF_UNKNOWN_VIDEO,
    annotations_from_document,
    read_annotations,
)
from harness.scoring.score import Score, score_results

Change = Callable[[dict[str, Any], list[dict[str, Any]]], None]


def ids(change: Callable[[int], Any], *keys: str) -> Change:
    """Write the ids of these keys in both documents in another way."""

    def apply(truth: dict[str, Any], results: list[dict[str, Any]]) -> None:
        for what in ("videos", "categories"):
            if f"{'video' if what == 'videos' else 'category'}_id" in keys:
                for one in truth[what]:
                    one["id"] = change(one["id"])
        for record in (*truth["annotations"], *results):
            for key in keys:
                record[key] = change(record[key])

    return apply


def each(what: str, key: str, change: Callable[[Any], Any]) -> Change:
    """Write a key of all videos, categories or annotations in another way."""

    def apply(truth: dict[str, Any], results: list[dict[str, Any]]) -> None:
        for one in truth[what]:
            one[key] = change(one.get(key))

    return apply


def mask_sizes(change: Callable[[int], Any], of_truth: bool) -> Change:
    def apply(truth: dict[str, Any], results: list[dict[str, Any]]) -> None:
        for record in truth["annotations"] if of_truth else results:
            for mask in filter(None, record["segmentations"]):
                mask["size"] = [change(side) for side in mask["size"]]

    return apply


VIDEO, CATEGORY = ("video_id",), ("category_id",)
FORMS: dict[str, tuple[Change, str, int]] = {
    "video ids as text": (ids(str, *VIDEO), "id is text", 2 + 2 + 2),
    "video ids as words": (ids(lambda i: f"sav_{i:06d}", *VIDEO), "id is text", 6),
    "video ids as 1.0": (ids(float, *VIDEO), "id is a decimal number", 6),
    "video ids beyond 64 bits": (ids(lambda i: i + (1 << 63), *VIDEO), "id is beyond 64 bits", 6),
    "video ids far beyond 64 bits": (ids(lambda i: i + (1 << 70), *VIDEO), "id is beyond 64 bits", 6),
    "negative ids beyond 64 bits": (ids(lambda i: i - (1 << 70), *VIDEO), "id is beyond 64 bits", 6),
    "category ids as text": (ids(str, *CATEGORY), "id is text", 6),
    "category ids as 1.0": (ids(float, *CATEGORY), "id is a decimal number", 6),
    "all ids as text": (ids(str, *VIDEO, *CATEGORY), "id is text", 12),
    "annotation ids as text": (each("annotations", "id", str), "id is text", 2),
    "annotation ids as 1.0": (each("annotations", "id", float), "id is a decimal number", 2),
    "iscrowd false": (each("annotations", "iscrowd", bool), "iscrowd is true or false", 2),
    "iscrowd 0.0": (each("annotations", "iscrowd", float), "iscrowd is a decimal number", 2),
    "heights as 720.0": (each("videos", "height", float), "size or length of a video is a decimal number", 2),
    "widths as text": (each("videos", "width", str), "size or length of a video is text", 2),
    "lengths as text": (each("videos", "length", str), "size or length of a video is text", 2),
    "names of categories are numbers": (each("categories", "name", lambda _: 7), "name of a category is a number", 2),
    "names of videos are numbers": (each("videos", "name", lambda _: 7), "name of a video is a number", 2),
    "areas as text": (each("annotations", "areas", lambda a: [str(x) for x in a]), "areas hold text", 4),
    "sizes of true masks": (mask_sizes(float, True), "size of a mask is a decimal number", 4),
    "sizes of masks": (mask_sizes(float, False), "size of a mask is a decimal number", 3),
    "sizes of masks as text": (mask_sizes(str, False), "size of a mask is text", 3),
}


def score(folder: Path, truth: Any, results: Any, protocol: str = "ytvis", strict: bool = False) -> Score:
    (folder / "gt.json").write_text(json.dumps(truth))
    (folder / "r.json").write_text(json.dumps(results))
    return score_results(protocol, read_annotations(folder / "gt.json"), folder / "r.json", strict)


def odd_results() -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Two documents whose numbers are not all 1, so that a mix-up of ids would show."""
    truth, results = document(), perfect(document())
    results[1]["segmentations"] = results[1]["segmentations"][:1]
    return truth, copy.deepcopy(results)


@pytest.mark.parametrize("form", FORMS)
def test_the_same_numbers_and_one_warning(tmp_path: Path, form: str) -> None:
    change, kind, count = FORMS[form]
    truth, results = odd_results()
    plain = score(tmp_path, truth, results)
    change(truth, results)
    odd = score(tmp_path, truth, results)
    assert (odd.metrics.values, odd.corrected.values) == (plain.metrics.values, plain.corrected.values)
    known = {w["kind"] for w in plain.warnings}
    assert [(w["kind"], w["count"]) for w in odd.warnings if w["kind"] not in known] == [(kind, count)]
    with pytest.raises(UserError, match=kind):
        score(tmp_path, truth, results, strict=True)


@pytest.mark.parametrize(("in_truth", "in_results"), [(1, "1"), ("1", 1), (1, 1.0), (1.0, 1), (1, True), (1, "1.0")])
def test_numbers_as_text_meet_numbers(tmp_path: Path, in_truth: Any, in_results: Any) -> None:
    truth, results = document(), perfect(document())
    plain = score(tmp_path, truth, results).metrics.values
    for video in truth["videos"]:
        video["id"] = type(in_truth)(video["id"])
    for record in truth["annotations"]:
        record["video_id"] = type(in_truth)(record["video_id"])
    assert results[0]["video_id"] == 1
    results[0]["video_id"] = in_results
    assert score(tmp_path, truth, results).metrics.values == plain


@pytest.mark.parametrize(("change", "words"), [
    ({"video_id": "v1"}, 'record 0: unknown video "v1"; some'),
    ({"video_id": "01"}, 'record 0: unknown video "01"'),
    ({"video_id": 1.5}, "record 0: video_id is 1.5"),
    ({"video_id": None}, "record 0: video_id is null"),
    ({"category_id": [1]}, "record 0: category_id is [1]"),
    ({"score": "0.5"}, 'record 0: score is "0.5"'),
    ({"score": 10**400}, "record 0: score is 1000"),
])  # fmt: skip
def test_what_stands_for_nothing_is_refused(tmp_path: Path, change: dict[str, Any], words: str) -> None:
    results = perfect(document())
    results[0] |= change
    with pytest.raises(UserError) as refusal:
        score(tmp_path, document(), results)
    assert words in str(refusal.value)


def test_nan_is_taken_where_nobody_reads_it(tmp_path: Path) -> None:
    truth, results = document(), perfect(document())
    plain = score(tmp_path, truth, results)
    truth["info"] = {"fps": math.nan}
    truth["annotations"][0]["extra"] = [math.inf, -math.inf]
    results[1]["time"] = math.nan
    assert score(tmp_path, truth, results).record() == plain.record()


@pytest.mark.parametrize("area", [math.inf, 10**400])
def test_areas_beyond_all_numbers_are_in_no_range(tmp_path: Path, area: Any) -> None:
    truth, results = document(), perfect(document())
    truth["annotations"][0]["areas"][0] = area
    assert score(tmp_path, truth, results).counts["truths"] == 2
    reason = score(tmp_path, truth, results, "lvvis").metrics.undefined["AP"]
    assert "annotation 1: areas hold a value that is not finite" in reason
    truth["annotations"][0]["areas"] = ["large", 2]
    odd = score(tmp_path, truth, results, "lvvis")
    assert "annotation 1: areas is not a list of numbers" in odd.metrics.undefined["AP"]
    assert odd.corrected.values["AP"] == pytest.approx(1)


def test_areas_that_are_not_finite(tmp_path: Path) -> None:
    truth, results = document(), perfect(document())
    plain = score(tmp_path, truth, results)
    truth["annotations"][0]["areas"][0] = math.nan
    odd = score(tmp_path, truth, results)
    assert odd.metrics.values["APm"] == pytest.approx(1)  # as officially: an area that is no number is in every range
    assert odd.corrected.values == plain.corrected.values  # measured on the masks
    reason = score(tmp_path, truth, results, "lvvis").metrics.undefined["AP"]
    assert "annotation 1: areas hold a value that is not finite" in reason
    burst = {"frequency": "r", "split": "common"}
    truth["categories"] = [c | burst | ({"frequency": "f", "split": "uncommon"} if c["id"] == 1 else {})
                           for c in truth["categories"]]  # fmt: skip
    assert score(tmp_path, truth, results, "burst", strict=True).metrics.values["AP"] == pytest.approx(1)


@pytest.mark.parametrize(("what", "at", "change", "words"), [
    ("videos", 0, {"id": "one"}, "some ids of videos are text and some are numbers"),
    ("videos", 0, {"id": None}, "videos[0]: id is null"),
    ("videos", 0, {"id": 2.0}, "video id 2 occurs 2 times"),
    ("annotations", 1, {"id": "x"}, 'annotations[1]: id is "x"'),
    ("annotations", 1, {"iscrowd": "0"}, 'annotation 2: iscrowd is "0"'),
])  # fmt: skip
def test_annotations_that_stand_for_nothing_are_refused(
    tmp_path: Path, what: str, at: int, change: dict[str, Any], words: str
) -> None:
    truth = document()
    truth[what][at] |= change
    with pytest.raises(UserError) as refusal:
        score(tmp_path, truth, perfect(document()))
    assert words in str(refusal.value)


def test_messages_show_ids_as_the_file_has_them(tmp_path: Path) -> None:
    truth, results = document(), perfect(document())
    ids(lambda i: f"sav_{i:06d}", *VIDEO)(truth, results)
    (warning,) = [w for w in score(tmp_path, truth, results[:1]).warnings if "without" in w["kind"]]
    assert warning["first"].endswith("gt.json, video sav_000002")
    truth["videos"][1]["height"] = 1 << 31
    with pytest.raises(UserError, match="video sav_000002: size 2147483648x30"):
        score(tmp_path, truth, results)


def test_lines_are_no_annotation_file(tmp_path: Path) -> None:
    (tmp_path / "gt.json").write_text(f"{json.dumps(document())}\n{json.dumps(document())}\n")
    with pytest.raises(UserError, match="several JSON values"):
        read_annotations(tmp_path / "gt.json")


def test_runs_need_ids_that_are_integers_and_names(tmp_path: Path) -> None:
    truth, results = document(), perfect(document())
    ids(str, *VIDEO)(truth, results)
    (tmp_path / "gt.json").write_text(json.dumps(truth))
    with pytest.raises(UserError, match="ids of videos are text, or numbers beyond 64 bits; runs need integers"):
        open_custom(tmp_path / "gt.json", tmp_path, "ytvis")
    truth = document()
    truth["categories"][0]["name"] = None
    (tmp_path / "gt.json").write_text(json.dumps(truth))
    with pytest.raises(UserError, match="category 1: has no name that is text"):
        open_custom(tmp_path / "gt.json", tmp_path, "ytvis")
    truth = document()
    truth["videos"][0]["file_names"] = "v1/0.jpg"
    (tmp_path / "gt.json").write_text(json.dumps(truth))
    with pytest.raises(UserError, match="video 1: 0 file names for 2 frames"):
        open_custom(tmp_path / "gt.json", tmp_path, "ytvis")


def test_names_that_are_no_unicode_text_can_be_written(tmp_path: Path) -> None:
    (tmp_path / "gt.json").write_text(json.dumps(document()).replace('"cat"', '"\\ud800"'))
    read = read_annotations(tmp_path / "gt.json")
    assert read.categories[0].name == "?"


@given(st.integers(-(10**30), 10**30))
def test_whole_numbers(value: int) -> None:
    assert whole(value) == (value, "")
    assert whole(str(value)) == (value, "text")
    assert whole(f"{value}.0") == (value, "text")
    assert whole(f"0{abs(value)}") is None or value == 0


@settings(max_examples=50)
@given(st.lists(st.text(max_size=4), min_size=1, unique=True) | st.lists(st.integers(), min_size=1, unique=True))
def test_ids_are_numbered_in_their_order(keys: list[Any]) -> None:
    found = number_ids(keys, "gt.json", "videos")
    assert sorted(keys) == [found.by_id[position] for position in sorted(found.by_id)]
    assert all(found.find(key, "", "id")[0] == found.by_key[key] for key in keys)


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_any_change_of_a_value_scores_or_is_refused(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    truth, results = document(), perfect(document())
    places: list[tuple[Any, Any]] = []

    def collect(node: Any) -> None:
        for key, value in node.items() if isinstance(node, dict) else enumerate(node):
            places.append((node, key))
            if isinstance(value, (dict, list)):
                collect(value)

    collect(truth)
    collect(results)
    odd = st.sampled_from([None, True, -1, 0, 1.0, 1.5, math.nan, math.inf, 1 << 64, "1", "x", "", [], {}, [None], [[]],
                           {"size": [20.0, 30], "counts": [600]}, {"size": ["20", 30], "counts": "é"}])  # fmt: skip
    for node, key in data.draw(st.lists(st.sampled_from(places), min_size=1, max_size=2)):
        node[key] = copy.deepcopy(data.draw(odd))
    protocol = data.draw(st.sampled_from(["ytvis", "lvvis", "ovis", "burst", "ytvis-corrected"]))
    try:
        found = score(tmp_path_factory.mktemp("odd"), truth, results, protocol)
    except UserError:
        return
    json.dumps(found.record(), allow_nan=False)


def test_documents_in_memory_are_read_alike() -> None:
    truth = document()
    truth["videos"][0]["height"] = 20.0
    read = annotations_from_document(truth, "made")
    assert read.videos[0].height == 20
    assert [note.kind for note in read.notes] == ["size or length of a video is a decimal number"]


@pytest.mark.parametrize("of_truth", [True, False])
@pytest.mark.parametrize("nothing", [0, 0.0, False, "", {}, []])
def test_what_is_false_in_python_is_no_mask(tmp_path: Path, nothing: Any, of_truth: bool) -> None:
    def emptied(value: Any) -> Score:
        truth, results = document(), perfect(document())
        for record in truth["annotations"] if of_truth else results:
            record["segmentations"] = [value, record["segmentations"][1]]
        return score(tmp_path, truth, results)

    plain = emptied(None)
    assert plain.metrics.values["AP"] != pytest.approx(1)
    assert emptied(nothing).record() == plain.record()


@pytest.mark.parametrize("of_truth", [True, False])
@pytest.mark.parametrize("nothing", ["{}", "{ }", '""'])
def test_an_empty_object_or_text_is_a_track_without_frames(tmp_path: Path, nothing: str, of_truth: bool) -> None:
    def emptied(value: str) -> Score:
        truth, results = document(), perfect(document())
        (truth["annotations"] if of_truth else results)[0]["segmentations"] = "here"
        texts = [json.dumps(one).replace('"here"', value) for one in (truth, results)]
        (tmp_path / "gt.json").write_text(texts[0])
        (tmp_path / "r.json").write_text(texts[1])
        return score_results("ytvis", read_annotations(tmp_path / "gt.json"), tmp_path / "r.json", False)

    assert emptied(nothing).record() == emptied("[]").record()


@pytest.mark.parametrize("first", [True, False])
@pytest.mark.parametrize("of_truth", [True, False])
@pytest.mark.parametrize(("key", "value"), [
    ("coarse", "here"), ("colour", "red"), ("camera", [4, 5]), ("countX", None), ("seed", [9, 9]), ("step", 3),
])  # fmt: skip
def test_other_keys_of_a_mask_are_never_read(tmp_path: Path, key: str, value: Any, of_truth: bool, first: bool) -> None:
    """Their first letter and length are those of "counts" and "size"."""
    truth, results = odd_results()
    plain = score(tmp_path, truth, results).record()
    other = truth["annotations"][0]["segmentations"][1]["counts"]
    for record in truth["annotations"] if of_truth else results:
        extra = {key: other if value == "here" else value}
        record["segmentations"] = [extra | m if first else m | extra for m in record["segmentations"]]
    assert score(tmp_path, truth, results).record() == plain


@pytest.mark.parametrize("flag", [2, -1, 3.0])
def test_every_number_but_0_is_a_crowd(tmp_path: Path, flag: Any) -> None:
    truth, results = document(), perfect(document())
    truth["annotations"][0]["iscrowd"] = 1
    plain = score(tmp_path, truth, results)
    assert [row["AP"] is None for row in plain.per_category] == [True, False]
    truth["annotations"][0]["iscrowd"] = flag
    assert score(tmp_path, truth, results).metrics.values == plain.metrics.values


@pytest.mark.parametrize(("key", "value", "kind"), [
    ("video_id", 9, ANNOTATION_OF_UNKNOWN_VIDEO),
    ("video_id", "9", ANNOTATION_OF_UNKNOWN_VIDEO),
    ("category_id", 7, ANNOTATION_OF_UNKNOWN_CATEGORY),
])  # fmt: skip
def test_annotations_of_unlisted_videos_and_categories_are_left_out(
    tmp_path: Path, key: str, value: Any, kind: str
) -> None:
    """The official tools never look at them: a file whose list of videos was cut by hand scores."""
    truth, results = document(), perfect(document())
    truth["annotations"].pop(0)
    plain = score(tmp_path, truth, results)
    truth = document()
    truth["annotations"][0][key] = value
    odd = score(tmp_path, truth, results)
    assert (odd.metrics.values, odd.corrected.values) == (plain.metrics.values, plain.corrected.values)
    (warning,) = [w for w in odd.warnings if w["kind"] == kind]
    assert (warning["count"], warning["first"]) == (1, f"{tmp_path / 'gt.json'}, annotation 1")
    with pytest.raises(UserError, match=kind):
        score(tmp_path, truth, results, strict=True)
    assert read_truth(tmp_path / "gt.json").warnings.record()[0]["kind"] == kind


@pytest.mark.parametrize("value", [None, 0, -5, "tall", 20.5, [20], 1 << 60])
@pytest.mark.parametrize("key", ["height", "width", "length"])
def test_sizes_and_lengths_of_videos_that_cannot_be_read(tmp_path: Path, key: str, value: Any) -> None:
    """The official tools read none of them: masks have their own size."""
    truth, results = odd_results()
    plain = score(tmp_path, truth, results)
    for video in truth["videos"]:
        video[key] = value
    odd = score(tmp_path, truth, results)
    assert (odd.metrics.values, odd.corrected.values) == (plain.metrics.values, plain.corrected.values)
    told = [w["kind"] for w in odd.warnings if "cannot be read" in w["kind"]]
    if key != "length":
        assert told == ["height or width of a video cannot be read, those of its masks are used"]
        assert [(v.height, v.width) for v in read_annotations(tmp_path / "gt.json").videos] == [(20, 30)] * 2
    else:
        assert len(told) == (value not in (None, 0))
    truth["annotations"][1]["segmentations"][0] = [[1, 1, 9, 1, 9, 9]]
    if key != "length":
        with pytest.raises(UserError, match="annotation 2, frame 0: is a polygon, and the height or width"):
            score(tmp_path, truth, results)
