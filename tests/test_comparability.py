"""Runs on a part of a known dataset: a dagger with the reasons everywhere, and no rank among published rows."""

from __future__ import annotations

import csv
import html
import io
import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from dataset_copies import annotation_document, write_frames
from hypothesis import given
from hypothesis import strategies as st
from oracle_runs import oracle_run
from run_folders import make_record
from small_runs import SmallModel, make_run
from typer.testing import CliRunner
from vis_documents import document, perfect

from harness.cli.main import build
from harness.comparability import Comparability, comparability, comparability_of
from harness.datasets.burst import PLUGIN as BURST
from harness.datasets.lvvis import PLUGIN as LVVIS
from harness.datasets.shapes import PLUGIN as SHAPES
from harness.datasets.youtube_vis_format import Release, open_custom
from harness.formats.youtube_vis import Annotations, annotations_from_document
from harness.reports import figures as drawn
from harness.reports.html import Options, report
from harness.reports.layouts import TABLE_FORMATS, TableFormat
from harness.reports.leaderboard import find_runs, site
from harness.reports.run_files import read_runs
from harness.reports.table_rows import Published, Row, ranked, table_rows
from harness.reports.tables import comparison_table
from harness.runner import execute
from harness.tracking.fields import result_tags
from harness.types import Dataset

REASON = "2 of 837 videos"
BEST: dict[str, Any] = dict.fromkeys(
    ("drop_tracks", "erode_px", "drop_frames", "switch_identity", "wrong_label", "duplicate", "score_noise"), 0
)
BOLD = ("**", "\\textbf", "\\underline", "<strong>", "<u>", "\x1b[1m", "\x1b[4m")


def cli(*arguments: object) -> Any:
    return CliRunner().invoke(build(), [str(argument) for argument in arguments])


class Truncated(NamedTuple):
    """A copy of LV-VIS val with two videos, its runs, and their records."""

    root: Path
    runs: list[Path]
    records: list[dict[str, Any]]


@pytest.fixture(scope="module")
def truncated(tmp_path_factory: pytest.TempPathFactory) -> Truncated:
    root = tmp_path_factory.mktemp("copy")
    write_frames(root / "lvvis/val/JPEGImages")
    (root / "lvvis/val_instances_.json").write_text(json.dumps(annotation_document("lvvis")))
    runs = [oracle_run(root / "runs", LVVIS.open(root, "val"), **{**BEST, "erode_px": n}) for n in (0, 1)]
    return Truncated(root, runs, [json.loads((run / "metrics.json").read_text()) for run in runs])


def test_the_record_begins_with_it(truncated: Truncated) -> None:
    for record in truncated.records:
        assert list(record)[:3] == ["format", "comparable", "not_comparable"]
        assert (record["comparable"], record["not_comparable"], record["complete"]) == (False, [REASON], True)
    assert truncated.records[0]["metrics"]["AP"] > 0.99


@pytest.mark.parametrize("format", TABLE_FORMATS)
def test_no_table_ranks_it(truncated: Truncated, format: TableFormat, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "300")  # a row in the terminal is a line
    choices: tuple[Published, ...] = ("all", "")
    for published in choices:
        text = comparison_table(truncated.records, format, published=published, color=True)
        if format == "csv":
            for line in [one for one in csv.DictReader(io.StringIO(text)) if one["Method"].startswith("oracle")]:
                assert (line["Comparable"], line["Not comparable"]) == ("no", REASON)
            continue
        assert REASON in text
        mine = [line for line in re.split(r"\n|</tr>", text) if "oracle" in line and REASON not in line]
        assert len(mine) == 2 or format == "html"
        daggers = "textdagger" if format == "latex" else "†"
        assert all(daggers in line for line in mine)
        assert not any(mark in line for mark in BOLD for line in mine)


def test_tables_of_the_command_line_and_of_the_folder(truncated: Truncated) -> None:
    text = (truncated.runs[0] / "table.md").read_text()
    assert "| oracle† " in text
    assert f"- † oracle: not comparable: {REASON}" in text
    done = cli("table", *truncated.runs, "--published", "all", "--json")
    mine = [row for row in json.loads(done.stdout)["rows"] if not row["published"]]
    assert [(row["comparable"], row["not_comparable"]) for row in mine] == 2 * [(False, [REASON])]
    latex = cli("table", *truncated.runs, "--published", "all", "--format", "latex").stdout
    ours = [line for line in latex.splitlines() if "oracle" in line and "&" in line]
    assert len(ours) == 2
    assert not any("textbf" in line for line in ours)


def test_reports_leaderboard_comparison_figures_and_analysis_say_it(truncated: Truncated) -> None:
    labels = ["oracle erode_px=0†", "oracle erode_px=1†"]
    note = f"† oracle erode_px=0, oracle erode_px=1: not comparable: {REASON}"
    page = html.unescape(report(truncated.runs, Options(truncated.root, videos=1)))
    results = page.partition('id="results"')[2].partition("</section>")[0]
    assert page.count(f'<p class="warning">{note}</p>') == 1
    assert f'<p class="note">{note}</p>' in results
    for label in labels:
        line = next(one for one in results.split("</tr>") if label in one)
        assert 'class="best"' not in line
        assert 'class="second"' not in line

    board = site(find_runs(truncated.root / "runs"))
    lines = [one for one in board["lvvis-val.html"].split("</tr>") if "oracle†" in one]
    assert len(lines) == 2
    assert all(f'<span class="interval">{REASON}</span>' in one for one in lines)
    assert not any('class="best"' in one or 'class="second"' in one for one in lines)
    assert "no comparable run with numbers" in board["index.html"]
    assert "oracle†" in board["index.html"]

    compared = cli("compare", *truncated.runs)
    assert note in compared.stdout
    assert all(label in compared.stdout for label in labels)
    found = json.loads(cli("compare", *truncated.runs, "--json").stdout)["runs"]
    assert [(run["comparable"], run["not_comparable"]) for run in found] == 2 * [(False, [REASON])]

    subject = drawn.figure_data(read_runs(truncated.runs), truncated.root)
    for drawing in drawn.figures(subject)[0]:
        svg = drawn.figure_bytes(drawing.figure, "svg").decode()
        told = html.unescape(" ".join(re.findall(r"<!-- (.*?) -->", svg)))
        assert "not comparable" in told, drawing.name
        assert re.sub(r"\s", "", REASON) in re.sub(r"\s", "", told), drawing.name

    analysed = cli("analyse", *truncated.runs, "--data-root", truncated.root)
    assert note in analysed.stdout
    assert re.search(r"A oracle erode_px=0: AP50 [\d.]+†, AP [\d.]+†", analysed.stdout)


def test_a_run_says_it_and_its_json_begins_with_it(truncated: Truncated) -> None:
    data = ("--dataset", "lvvis", "--data-root", truncated.root, "--runs-dir", truncated.root / "others")
    done = cli("run", "--model", "oracle", *data, "--no-mlflow", "--json")
    assert done.exit_code == 0, done.stderr
    (record,) = json.loads(done.stdout)["runs"]
    assert list(record)[:3] == ["format", "comparable", "not_comparable"]
    assert f"not comparable with published numbers: {REASON}" in done.stderr


def test_eval_judges_by_the_dataset_that_is_named(truncated: Truncated, tmp_path: Path) -> None:
    gt, predictions = truncated.root / "lvvis/val_instances_.json", tmp_path / "results.json"
    predictions.write_text(json.dumps(perfect(annotation_document("lvvis"))))

    def judged(*arguments: object) -> tuple[bool | None, list[str]]:
        done = cli("eval", *arguments, "--predictions", predictions, "--json")
        assert done.exit_code == 0, done.output
        record = json.loads(done.stdout)
        assert list(record)[:2] == ["comparable", "not_comparable"]
        return record["comparable"], record["not_comparable"]

    named = ("--dataset", "lvvis", "--data-root", truncated.root)
    other = "scored by ytvis, published numbers by lvvis"
    assert judged("--protocol", "lvvis", "--annotations", gt) == (None, [])
    assert judged(*named) == (False, [REASON])
    assert judged(*named, "--protocol", "ytvis") == (False, [REASON, other])
    assert judged("--dataset", "lvvis", "--annotations", gt) == (False, [REASON])
    assert judged("--dataset", "lvvis", "--annotations", gt, "--protocol", "ytvis") == (False, [REASON, other])
    shown = cli("eval", *named, "--predictions", predictions).stdout
    assert "percent†" in shown
    assert f"† not comparable: {REASON}" in shown
    for arguments, words in (
        (("--dataset", "shapes", "--annotations", gt), "does not describe its files"),
        (("--dataset", "burst", "--annotations", gt, "--protocol", "burst-open-world"), "is not the file of BURST"),
    ):
        assert words in str(cli("eval", *arguments, "--predictions", predictions).exception)


def lvvis(**changes: Any) -> Annotations:
    """A file that holds as much as LV-VIS val, unless told otherwise; what tracks hold does not matter."""
    made = annotation_document("lvvis")
    videos, frames, tracks = (changes.get(key, n) for key, n in (("videos", 837), ("frames", 19_139), ("tracks", 3719)))
    made["videos"] = [{"id": v, "height": 20, "width": 30, "length": 22} for v in range(1, videos + 1)]
    made["videos"][0]["length"] += frames - 22 * 837
    track = {**made["annotations"][0], "segmentations": []}
    made["annotations"] = [{**track, "id": n} for n in range(1, tracks + 1)]
    made["categories"] = changes.get("categories", made["categories"])
    return annotations_from_document(made, changes.get("path", "val_instances_.json"))


def test_what_sets_a_file_apart_from_the_published_split() -> None:
    assert LVVIS.differences(lvvis(), "val") == ()
    assert LVVIS.differences(lvvis(videos=840), "val") == ("840 videos, 837 expected",)
    assert LVVIS.differences(lvvis(frames=19_000), "val") == ("19000 of 19139 frames",)
    assert LVVIS.differences(lvvis(tracks=3720), "val") == ("3720 annotated tracks, 3719 expected",)
    first = lvvis(path="somewhere/val_instances.json", tracks=3000)
    assert LVVIS.differences(first, "val") == ("first release of the annotations (val_instances.json)",)
    renamed = annotation_document("lvvis")["categories"]
    renamed[3] = {**renamed[3], "name": "my own"}
    (sentence,) = LVVIS.differences(lvvis(categories=renamed), "val") or ()
    assert sentence.startswith('the categories are not LV-VIS\'s: category 4 is "my own"')


def test_both_numbers_of_bursts_videos_are_whole_and_its_categories_go_by_name() -> None:
    made = annotation_document("burst")
    made["categories"] = [{**c, "id": 1000 - c["id"], "split": "common"} for c in made["categories"]]
    made["annotations"] = []
    for count, expected in ((988, ()), (993, ()), (500, ("500 of 988 videos",)), (990, ("990 videos, 988 expected",))):
        made["videos"] = [{"id": v, "height": 20, "width": 30, "length": 2} for v in range(count)]
        assert BURST.differences(annotations_from_document(made, "all_classes.json"), "val") == expected
    made["categories"] = made["categories"][1:]
    (*_, sentence) = BURST.differences(annotations_from_document(made, "all_classes.json"), "val") or ()
    assert sentence == 'the categories are not BURST\'s: lacks "aerosol_can" (481 categories, 482 expected)'


def whole(root: Path) -> Dataset:
    """Two videos of a dataset that is published with two."""
    declared = tuple(replace(s, videos=2, frame_count=4, releases=(replace(s.releases[0], tracks=2),))
                     for s in LVVIS.declared)  # fmt: skip
    return replace(LVVIS, declared=declared).open(root, "val")


def test_a_whole_split_is_ranked_among_published_rows(truncated: Truncated, tmp_path: Path) -> None:
    run = oracle_run(tmp_path, whole(truncated.root), **BEST)
    record = json.loads((run / "metrics.json").read_text())
    assert (record["comparable"], record["not_comparable"]) == (True, [])
    assert table_rows([record], published="all")[0].marks["AP"] == "best"
    assert "†" not in comparison_table([record], published="all")


def test_limits_and_failures_are_reasons_whatever_the_data(truncated: Truncated, tmp_path: Path) -> None:
    limited = oracle_run(tmp_path, whole(truncated.root), limit=1)
    expected = (False, ["first video only (--limit 1)"])
    assert judgement(limited) == expected
    assert judgement(oracle_run(tmp_path, whole(truncated.root), limit=2)) == (True, [])  # leaves nothing out

    def fail(video_id: int) -> None:
        if video_id == 2:
            raise RuntimeError("no luck")

    run = make_run(tmp_path, SmallModel(fail))
    assert execute(run).exit_code == 1
    assert judgement(run.folder) == (False, ["1 of 4 videos failed"])
    run = make_run(tmp_path, SmallModel(), limit=2)
    execute(run)
    assert judgement(run.folder) == (False, ["first 2 videos only (--limit 2)"])
    run = make_run(tmp_path)
    execute(run)
    assert judgement(run.folder) == (None, [])


def judgement(run: Any) -> tuple[bool | None, list[str]]:
    record = json.loads((run / "metrics.json").read_text())
    return record["comparable"], record["not_comparable"]


def test_own_data_and_shapes_are_of_unknown_standing(tmp_path: Path) -> None:
    (tmp_path / "mine.json").write_text(json.dumps(document()))
    assert open_custom(tmp_path / "mine.json", tmp_path, "lvvis").differences is None
    assert SHAPES.open(Path(), "test").differences is None
    silent = replace(
        LVVIS, declared=(replace(LVVIS.declared[0], name="val", videos=None, releases=(Release("it", ()),)),)
    )
    assert silent.differences(lvvis(videos=5), "val") is None


def test_the_judgement() -> None:
    assert comparability(None) == (None, ())
    assert comparability(()) == (True, ())
    assert comparability((), ["a"]) == comparability(None, ["a"]) == (False, ("a",))
    assert comparability(["a"], ["b"]).record() == {"comparable": False, "not_comparable": ["a", "b"]}
    assert comparability_of({"comparable": True, "not_comparable": ["odd"]}) == Comparability(True, ())
    assert comparability_of({"comparable": False}).reasons  # no dagger without a reason


def test_mlflow_has_it_as_tags() -> None:
    record = {**make_record("m", AP=0.5), "comparable": False, "not_comparable": ["a", "b"]}
    assert {k: v for k, v in result_tags(record).items() if "comparable" in k} == {
        "comparable": "false",
        "not_comparable": "a; b",
    }
    assert result_tags(record | {"comparable": None, "not_comparable": []})["comparable"] == "unknown"


ROWS = st.builds(
    lambda comparable, is_published, number: Row(
        "m", "d", "s", {"AP": number}, ["x"], is_published, True if is_published else comparable
    ),
    st.sampled_from([True, False, None]),
    st.booleans(),
    st.decimals(0, 100, places=1),
)


@given(st.lists(ROWS, max_size=6))
def test_the_rule_of_ranking(group: list[Row]) -> None:
    beside_published = any(row.is_published for row in group)
    for row in group:
        allowed = row.comparable is True or (row.comparable is None and not beside_published)
        assert any(one is row for one in ranked(group)) == allowed


@given(
    st.lists(st.tuples(st.sampled_from([True, False, None]), st.floats(0, 1)), min_size=1, max_size=5), st.booleans()
)
def test_only_false_has_a_dagger_and_only_true_a_mark_beside_published_rows(
    found: list[tuple[bool | None, float]], published: bool
) -> None:
    records = [
        {**make_record(f"m{n}", AP=ap), "comparable": told, "not_comparable": [REASON] if told is False else []}
        for n, (told, ap) in enumerate(found)
    ]
    made = table_rows(records, ("AP",), published=published)
    for (told, _), row in zip(found, made, strict=False):
        assert bool(row.dagger) == (told is False)
        if told is False or (told is None and published):
            assert row.marks == {}
    best = [ap for told, ap in found if told or (told is None and not published)]
    if best and not published and len(best) > 1:
        top = next(row for (told, ap), row in zip(found, made, strict=False) if told is not False and ap == max(best))
        assert top.marks["AP"] == "best"
