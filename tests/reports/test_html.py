"""The report's content: what it says of one and several runs, what it leaves out and why, and that text is text.

Tests of `harness/cli/report.py`, `reports/analysis_text.py`, `reports/pages.py`, `reports/sections.py` and
`reports/svg.py`.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
import shutil
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from oracle_runs import oracle_run
from run_folders import make_record, make_run
from small_runs import SmallModel, make_dataset
from small_runs import make_run as make_small_run
from typer.testing import CliRunner

from harness.cli.main import build
from harness.datasets.shapes import PLUGIN as SHAPES
from harness.errors import UserError
from harness.reports import svg
from harness.reports.ceilings import ceilings_of_runs
from harness.reports.html import Options, report
from harness.reports.pages import embedded, percent, points, without_folders
from harness.reports.published.vocabulary import DATASET_NAMES
from harness.runner import execute


class Elements(HTMLParser):
    """The elements of a page by tag: attributes and the text right in them."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None], list[str]]] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs), []))

    def handle_data(self, data: str) -> None:
        if self.found:
            self.found[-1][2].append(data)

    def named(self, tag: str) -> list[tuple[dict[str, str | None], str]]:
        return [(attributes, "".join(text)) for name, attributes, text in self.found if name == tag]


def answer(page: str) -> str:
    return next(text for a, text in Elements(page).named("p") if a.get("class") == "answer").strip()


def viewer(page: str) -> Any:
    return json.loads(next(text for a, text in Elements(page).named("script") if a.get("id") == "viewer-data"))


def text_of(page: str) -> str:
    return " ".join("".join(text) for tag, _, text in Elements(page).found if tag not in ("script", "style"))


def test_the_answer_says_who_is_better_by_how_much_and_whether_that_is_chance(two: list[Path], page: str) -> None:
    ap = [100 * json.loads((run / "metrics.json").read_bytes())["metrics"]["AP"] for run in two]
    said = answer(page)
    assert said.startswith("oracle wrong_label=0.0 is better than oracle wrong_label=0.5 by ")
    assert f"by {ap[0] - ap[1]:.1f} points of AP, {ap[0]:.1f} against {ap[1]:.1f}." in said
    assert "The difference is significant, p " in said
    told = "Errors that cost oracle wrong_label=0.5 more than oracle wrong_label=0.0, in points of AP50: "
    assert told in text_of(page)
    links = [(attributes["href"], text) for attributes, text in Elements(page).named("a")]
    assert any(href.startswith("#video-") and text.startswith("classification") for href, text in links)


def test_numbers_can_be_traced_to_the_runs(two: list[Path], page: str) -> None:
    text = text_of(page)
    for run in two:
        config = json.loads((run / "config.json").read_bytes())
        assert run.name in text
        assert config["digest"][:12] in text
    assert "lvvis, version 1" in text
    assert "Stages are in milliseconds per frame" in text


def test_stages_and_memory_are_shown_where_a_run_has_them(two: list[Path], tmp_path: Path) -> None:
    run = shutil.copytree(two[0], tmp_path / two[0].name)
    times = json.loads((run / "timings.json").read_bytes())
    (run / "timings.json").write_text(json.dumps({**times, "stages": {"pixel_decoder": [2.0, 3 << 30]}}))
    page = report([run])
    frames = sum(len(video.frames) for video in SHAPES.open(Path(), "test").videos)
    (cell,) = (text for _, text in Elements(page).named("td") if text == f"{2000 / frames:.1f} ms ")
    assert "pixel decoder" in text_of(page)
    assert "3.00 GiB" in text_of(page)
    assert cell


def test_the_same_runs_give_the_same_bytes(two: list[Path], page: str) -> None:
    assert report(two, Options(videos=4)) == page


def test_the_viewer_has_the_videos_that_the_summary_names_and_says_what_became_of_tracks(page: str) -> None:
    videos = viewer(page)["videos"]
    assert [video["group"] for video in videos] == ["Named above"] * 4
    named = [text for attributes, text in Elements(page).named("a") if attributes["href"].startswith("#video-")]
    marks = [mark for video in videos for mark in video["mark"].split(", ")]
    assert all(any(text.startswith(mark) for text in named) for mark in marks)
    assert [pane["title"] for pane in videos[0]["panes"]] == [
        "Truth",
        "oracle wrong_label=0.0",
        "oracle wrong_label=0.5",
    ]
    notes = [track["note"] for video in videos for track in video["panes"][2]["tracks"]]
    assert any(note.startswith("wrong category: it is ") for note in notes)
    assert "right" in notes
    for video in videos:
        assert len(video["frames"]) == len(video["indices"]) > 1
        assert all(uri.startswith("data:image/webp;base64,") for uri in video["frames"])
        assert all(len(t["paths"]) == len(video["frames"]) for pane in video["panes"] for t in pane["tracks"])


def test_ceilings_are_those_of_the_analysis(two: list[Path], page: str) -> None:
    assert 'id="ceilings"' not in page
    found = ceilings_of_runs(two, Path("data"))
    cells = [text for _, text in Elements(report(two, Options(videos=0, ceilings=True))).named("td")]
    for row in range(8):
        for protocol, key in (("lvvis", "AP"), ("hota", "HOTA")):
            values = [percent(one.found.rows[row].metrics[protocol][key]) for one in found]
            assert any(
                [cell.split("<")[0].strip() for cell in cells[at : at + 2]] == values for at in range(len(cells))
            )


def test_further_metrics_are_columns_and_rows(two: list[Path]) -> None:
    text = report(two, Options(videos=0, metrics=("lvvis/APs",)))
    assert "<th>lvvis/APs</th>" in text
    assert "lvvis/APs: no interval and no test: run folders do not hold what each video adds to it" in text
    with pytest.raises(UserError, match='"lvvis/APx" is not a metric of these runs; did you mean'):
        report(two, Options(videos=0, metrics=("lvvis/APx",)))


def test_tracks_about_an_object_have_its_colour(page: str) -> None:
    for video in viewer(page)["videos"]:
        truth, first, _ = video["panes"]
        colours = {track["name"]: track["colour"] for track in truth["tracks"]}
        right = [track for track in first["tracks"] if track["note"] == "right"]
        names = [track["name"] for track in truth["tracks"]]
        assert all(t["colour"] == colours[t["name"]] for t in right if names.count(t["name"]) == 1)


def test_frames_stay_within_their_share_of_the_page(two: list[Path], page: str) -> None:
    small = viewer(report(two, Options(videos=2, max_mb=0.1)))
    assert sum(len(uri) for video in small["videos"] for uri in video["frames"]) <= 100_000
    assert "videos" not in [a.get("id") for a, _ in Elements(report(two, Options(videos=0))).named("section")]
    assert len(page) < 2_000_000


def test_a_category_named_like_a_script_is_text(hostile: tuple[Path, Options]) -> None:
    run, options = hostile
    page = report([run], options)
    scripts = Elements(page).named("script")
    assert [attributes.get("type") for attributes, _ in scripts] == ["application/json", None]
    assert "alert(1)" not in scripts[1][1]
    assert not any(name.startswith("on") for _, attributes, _ in Elements(page).found for name in attributes)
    assert {track["name"] for video in viewer(page)["videos"] for track in video["panes"][0]["tracks"]} == {
        "</script><script>alert(1)</script><!-- '\"&",
        "yak",
    }
    assert "\u2028" not in page


def test_the_policy_allows_this_style_and_this_script_and_nothing_else(page: str) -> None:
    elements = Elements(page)
    policy = next(a["content"] for a, _ in elements.named("meta") if a.get("http-equiv") == "Content-Security-Policy")
    assert policy is not None
    assert policy.startswith("default-src 'none'; ")
    for tag in ("style", "script"):
        text = re.findall(rf"<{tag}>(.*?)</{tag}>", page, re.DOTALL)[0]
        assert f"{tag}-src 'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'" in policy
    assert not [a for _, a, _ in elements.found if "style" in a]
    links = [a.get(key) for _, a, _ in elements.found for key in ("src", "href") if a.get(key)]
    assert all(link is not None and link.startswith(("#", "data:")) for link in links)


def test_missing_frames_are_said_without_paths_of_this_machine(hostile: tuple[Path, Options]) -> None:
    run, options = hostile
    page = report([run], options)
    videos = {video["id"]: video for video in viewer(page)["videos"]}
    assert videos[1]["missing"] == "1 of 2 frames cannot be read: frame is missing"
    assert [uri is None for uri in videos[1]["frames"]] == [False, True]
    assert videos[2]["missing"] == ""
    assert str(run.parent) not in page


def test_one_run_has_its_intervals_and_no_difference(two: list[Path]) -> None:
    page = report(two[:1], Options(videos=1))
    assert re.search(r"oracle reaches [\d.]+ AP on shapes test \(95 % interval [\d.]+ to [\d.]+\)\.", answer(page))
    assert "minus" not in text_of(page)


def test_published_rows_of_an_unstated_split_have_a_heading(two: list[Path], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(DATASET_NAMES, "shapes", "BURST")
    text = text_of(report(two[:1], Options(videos=1)))
    assert text.count("split not stated by the source") == 1
    assert "SegFS" not in text  # HOTA is not a column
    assert text.index("split not stated by the source") < text.index("OVFormer, Swin-B, LVIS")


def test_several_runs_are_compared_with_the_first(two: list[Path], tmp_path: Path) -> None:
    third = oracle_run(tmp_path, SHAPES.open(Path(), "test"), wrong_label=1.0)
    page = report([two[1], two[0], third], Options(videos=1))
    text = text_of(page)
    assert answer(page).startswith("oracle wrong_label=0.0 has the highest AP of 3 runs. ")
    assert "oracle wrong_label=0.0 is better than oracle wrong_label=0.5 by" in answer(page)
    assert "3 of 3 pairs of runs differ significantly in AP" in text
    assert "minus oracle wrong_label=1.0" in text  # a column of the matrix of pairs
    dots = [a for a, _ in Elements(page).named("circle") if (a.get("class") or "").startswith("dot")]
    assert dots
    assert all(len((dot["data-v"] or "").split()) == 3 for dot in dots)


def test_runs_on_part_of_the_data_are_shown_and_said_to_be(two: list[Path], tmp_path: Path) -> None:
    part = oracle_run(tmp_path, SHAPES.open(Path(), "test"), limit=5)
    page = report([two[0], part], Options(videos=3))
    text = text_of(page)
    assert "† oracle wrong_label=0.1: not comparable: first 5 videos only (--limit 5)" in text
    assert "No intervals and no test of significance" in text
    assert answer(page).startswith("AP: oracle")
    assert {video["id"] for video in viewer(page)["videos"]} <= set(range(1, 6))


def test_an_incomplete_run_is_shown_over_the_videos_it_has(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(video_id: int) -> None:
        if video_id == 2:
            raise RuntimeError("no luck")

    run = make_small_run(tmp_path, SmallModel(fail))
    assert execute(run).exit_code == 1
    monkeypatch.setattr("harness.reports.html.dataset_of_run", lambda *arguments: run.dataset)
    page = report([run.folder], Options(videos=9))
    assert "small† is incomplete: 1 of 4 videos failed; its numbers are over the others only." in text_of(page)
    assert "† small: not comparable: 1 of 4 videos failed" in text_of(page)
    assert answer(page) == "AP: small† 100.0."
    assert {video["id"] for video in viewer(page)["videos"]} == {1, 3, 4}


def test_withheld_truth_leaves_predictions_to_look_at(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = make_small_run(tmp_path, dataset=make_dataset(with_truth=False))
    execute(run)
    monkeypatch.setattr("harness.reports.html.dataset_of_run", lambda *arguments: run.dataset)
    page = report([run.folder], Options(videos=2))
    assert answer(page) == "There are no numbers to compare."
    assert (
        "The truth of this split is withheld; only its server can score it (https://server.invalid/submit)."
        in text_of(page)
    )
    assert [[pane["title"] for pane in video["panes"]] for video in viewer(page)["videos"]] == 2 * [["small"]]


def test_without_the_data_the_page_has_what_the_folder_has(tmp_path: Path) -> None:
    folder = make_run(tmp_path, make_record("m", "nowhere", AP=0.5, APb=0.25), "m-nowhere-val-0123abcd")
    text = text_of(report([folder]))
    assert "Errors, slices and videos are left out, for they need the data" in text
    assert "50.0" in text


def test_runs_on_different_data_are_refused(two: list[Path], hostile: tuple[Path, Options]) -> None:
    with pytest.raises(UserError, match="make one report for each dataset and split"):
        report([two[0], hostile[0]])


def test_damaged_files_are_named(tmp_path: Path) -> None:
    folder = make_run(tmp_path, make_record("m", AP=0.5), "m")
    for name, content in (
        ("timings.json", "{"),
        ("environment.json", "[]"),
        ("per_category.csv", "id,name,AP\nx,y,z\n"),
    ):
        (folder / name).write_text(content)
        with pytest.raises(UserError, match=name):
            report([folder])
        (folder / name).unlink()


def test_the_command_writes_one_file(two: list[Path], tmp_path: Path) -> None:
    out = tmp_path / "report.html"
    arguments = ["report", str(two[0]), "--out", str(out), "--videos", "1", "--mlflow"]
    result = CliRunner().invoke(build(), arguments)
    assert result.exit_code == 0, result.output
    assert out.read_text().startswith("<!doctype html>")
    assert "was not logged to MLflow" in result.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["report.html"]
    refused = CliRunner().invoke(build(), ["report", str(two[0]), "--out", str(tmp_path)])
    assert isinstance(refused.exception, UserError)


def test_differences_have_a_sign_unless_they_round_to_nothing() -> None:
    assert [points(value) for value in (0.0123, -0.0123, 0.0, -0.0001, None)] == ["+1.2", "−1.2", "0.0", "0.0", "–"]


@given(
    st.recursive(
        st.none() | st.booleans() | st.text(), lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner)
    )
)
def test_embedded_data_cannot_end_its_element_and_comes_back(data: Any) -> None:
    text = str(embedded(data))
    assert not set(text) & set("<>&'")
    assert text.isascii()
    assert json.loads(text) == data


@given(st.floats(1e-4, 1.0))
def test_whiskers_have_an_axis_with_round_numbers(reach: float) -> None:
    axis = svg.whisker_axis(reach)
    left, zero, right = re.findall(r">([^<>]+)</text>", axis)
    assert (left, zero) == (f"−{right}", "0")
    assert 100 * reach / 3 <= float(right) * 1.001
    assert float(right) <= 90.1 * reach
    assert f"{float(right):e}"[0] in "125"
    places = re.findall(r"<text [^>]*x=\"([\d.]+)\"", axis)
    drawn = svg.whisker(0, 0, 0, reach, False)
    assert [f"M{places[0]} ", f"M{places[2]} "] == re.findall(r"M[\d.]+ ", drawn.partition("zero")[0])


def test_whiskers_of_no_length_have_a_zero() -> None:
    assert re.findall(r">([^<>]+)</text>", svg.whisker_axis(0)) == ["0"]


@pytest.mark.parametrize(
    ("text", "published"),
    [
        ("/home/me/data/gt.json, annotation 5", "gt.json, annotation 5"),
        ("video 3: C:\\data\\gt.json: 1/2 of it", "video 3: gt.json: 1/2 of it"),
        ("s3://bucket/runs/x.json, record 2", "s3://bucket/runs/x.json, record 2"),
        ("data/gt.json, category 1", "data/gt.json, category 1"),
    ],
)
def test_a_warning_names_no_folder_of_the_machine(text: str, published: str) -> None:
    assert without_folders(text) == published
