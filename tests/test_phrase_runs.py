"""Runs over phrases: each pair's phrase is asked by itself, and what is found is scored, written and exported.

Tests of `harness/types.py`.
"""

from __future__ import annotations

import csv
import json
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
from small_runs import LENGTH, SmallConfig, SmallModel, make_dataset, make_run, truth_of

from harness.baselines.external.plugin import PLUGIN as EXTERNAL
from harness.baselines.oracle import PLUGIN as ORACLE
from harness.baselines.track_by_detection.plugin import PLUGIN as TRACK_BY_DETECTION
from harness.errors import UserError
from harness.export import export_results
from harness.formats.youtube_vis import annotations_from_document, read_annotations
from harness.models.clipvis.plugin import PLUGIN as CLIPVIS
from harness.reports.comparison import compare_runs
from harness.reports.html import Options, report
from harness.reports.leaderboard import find_runs, site
from harness.reports.run_analysis import analyse_runs
from harness.reports.table_rows import PHRASE_COLUMNS
from harness.reports.tables import default_columns, table_of_run
from harness.run_folder.finished_run import FinishedRun
from harness.runner import RELATIVE_SCORES, execute
from harness.scoring.veval import score_veval
from harness.types import Dataset, Track, Video, Vocabulary

PAIRS = [(1, 1), (1, 2), (2, 1), (3, 2)]


def document() -> dict[str, Any]:
    dataset = make_dataset(3)
    assert dataset.truth is not None
    tracks = [
        {"id": v, "video_id": v, "category_id": 1, "iscrowd": 0, "areas": [30] * LENGTH,
         "bboxes": [[f, v, 6, 5] for f in range(LENGTH)],
         "segmentations": [{"size": list(m.size), "counts": m.counts.decode()} for m in truth_of(v)]}
        for v in (1, 2)
    ]  # fmt: skip
    videos = [
        {"id": v.id, "height": v.height, "width": v.width, "file_names": [f"{v.id}/{f}.jpg" for f in range(LENGTH)]}
        for v in dataset.videos
    ]
    categories = [{"id": c.id, "name": c.name} for c in dataset.categories]
    pairs = [{"video_id": v, "category_id": c} for v, c in PAIRS]
    return {"videos": videos, "categories": categories, "annotations": tracks, "video_np_pairs": pairs}


def phrases() -> Dataset:
    """Three videos: a box in the first two, asked for; a ball in none, asked of two."""
    return replace(make_dataset(3), protocol="veval", annotations=annotations_from_document(document(), "phrases"))


@dataclass
class Asked(SmallModel):
    """Finds the first video's box whenever asked of that video, and remembers what it was asked."""

    asked: list[tuple[int, tuple[int, ...]]] = field(default_factory=list)
    relative: bool = False

    def predict(self, video: Video, vocabulary: Vocabulary) -> Iterator[Track]:
        ids = tuple(category.id for category in vocabulary.categories)
        self.asked.append((video.id, ids))
        if video.id == 1:
            yield Track(1, ids[0], 0.9, truth_of(1))

    def scores_are_relative(self, config: SmallConfig) -> bool:
        return self.relative


def test_every_pair_is_asked_once_and_scored(tmp_path: Path) -> None:
    model = Asked()
    run = make_run(tmp_path, model, phrases())
    outcome = execute(run, table=table_of_run)
    assert outcome.exit_code == 0
    assert model.asked == [(1, (1,)), (1, (2,)), (2, (1,)), (3, (2,))]
    assert outcome.record["protocol"] == {"name": "veval", "version": "1"}
    presence = outcome.record["slices"]["presence"]
    assert [presence[f"IL_{key}"] for key in ("TP", "FP", "TN", "FN")] == [1, 1, 1, 1]
    with (run.folder / "per_pair.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(int(r["video_id"]), int(r["category_id"]), r["phrase"]) for r in rows] == [
        (v, c, ("box", "ball")[c - 1]) for v, c in PAIRS
    ]
    assert json.loads((run.folder / "metrics.json").read_text())["metrics"] == outcome.record["metrics"]
    assert "cgF1" in (run.folder / "table.md").read_text()


def test_the_exported_file_scores_as_the_run_did(tmp_path: Path) -> None:
    run = make_run(tmp_path, Asked(), phrases())
    record = execute(run).record
    export_results(run.folder, tmp_path / "results.json")
    first = json.loads((tmp_path / "results.json").read_text())[0]
    assert first["bboxes"] == [[f, 1, 6, 5] for f in range(LENGTH)]
    assert first["areas"] == [30] * LENGTH
    (tmp_path / "gt.json").write_text(json.dumps(document()))
    score = score_veval(read_annotations(tmp_path / "gt.json"), tmp_path / "results.json")
    assert score.metrics == record["metrics"]
    assert score.corrected == record["corrected"]


def test_relative_scores_are_told(tmp_path: Path) -> None:
    outcome = execute(make_run(tmp_path, Asked(relative=True), phrases()))
    assert any(RELATIVE_SCORES in message for message in outcome.messages)
    assert [w["first"] for w in outcome.record["warnings"] if w["kind"] == RELATIVE_SCORES] == ["model small"]
    silent = execute(make_run(tmp_path / "other", Asked(relative=True), make_dataset(2)))
    assert not any(RELATIVE_SCORES in message for message in silent.messages)


@pytest.mark.parametrize(("settings", "relative"), [({}, True), ({"segmenter": "ov2seg"}, False)])
def test_models_of_ours_whose_scores_are_relative(settings: dict[str, str], relative: bool) -> None:
    assert CLIPVIS.scores_are_relative(CLIPVIS.Config())
    config = TRACK_BY_DETECTION.Config.model_validate(settings)
    assert TRACK_BY_DETECTION.scores_are_relative(config) is relative


def test_the_oracle_without_faults_finds_all_and_nothing_else(tmp_path: Path) -> None:
    clean = dict.fromkeys(ORACLE.Config.model_fields, 0)
    record = execute(make_run(tmp_path, ORACLE, phrases(), config=ORACLE.Config(**clean))).record  # type: ignore[arg-type]
    assert record["metrics"]["pHOTA"] == record["metrics"]["pHOTA_box"] == 1
    assert record["slices"]["presence"]["IL_MCC"] == pytest.approx(1, abs=1e-6)


def test_another_protocol_scores_the_same_predictions(tmp_path: Path) -> None:
    outcome = execute(make_run(tmp_path, Asked(), phrases(), protocols=("veval", "ytvis")))
    names = [one["protocol"]["name"] for one in outcome.record["protocols"]]
    assert names == ["veval", "ytvis"]
    ytvis = outcome.record["protocols"][1]
    assert ytvis["slices"]["presence"]["IL_FP"] == 1  # the ball in the first video, where it was asked for
    assert ytvis["metrics"]["AP"] is not None


def test_the_python_interface_scores_phrases(tmp_path: Path) -> None:
    import harness

    run = make_run(tmp_path, Asked(), phrases())
    record = execute(run).record
    export_results(run.folder, tmp_path / "results.json")
    (tmp_path / "gt.json").write_text(json.dumps(document()))
    of_run = harness.evaluate(run.folder, phrases())
    of_file = harness.evaluate(tmp_path / "results.json", tmp_path / "gt.json", protocol="veval")
    assert of_run.metrics == of_file.metrics == record["metrics"]
    assert "cgF1" in repr(of_run)
    assert of_file.per_category.loc[(1, 1), "truths"] == 1


COMMAND = """
import json, sys
job = json.load(open(sys.argv[-1]))
[video], [word] = job["videos"], job["vocabulary"]
open("asked.txt", "a").write(json.dumps([video["id"], word["id"]]) + "\\n")
mask = {"size": [video["height"], video["width"]], "counts": [0, 24, video["height"] * video["width"] - 24]}
track = {"video_id": video["id"], "category_id": word["id"], "score": 0.5}
track["segmentations"] = [mask] * len(video["frames"])
json.dump([track], open(job["results"], "w"))
"""


def test_a_command_gets_a_job_for_every_pair(tmp_path: Path) -> None:
    (tmp_path / "segment.py").write_text(COMMAND)
    config = EXTERNAL.Config(command=[sys.executable, "segment.py"], working_directory=tmp_path, chunk=3)
    record = execute(make_run(tmp_path / "runs", EXTERNAL, phrases(), config=config)).record  # type: ignore[arg-type]
    asked = [tuple(json.loads(line)) for line in (tmp_path / "asked.txt").read_text().splitlines()]
    assert asked == PAIRS
    assert record["slices"]["presence"]["IL_FP"] == record["slices"]["presence"]["IL_TP"] == 2


def test_pages_of_runs_over_phrases(tmp_path: Path) -> None:
    """Report, leaderboard and table have the metrics of phrases; what needs matches of AP says how to get them."""
    file = tmp_path / "phrases.json"
    file.write_text(json.dumps(document()))
    dataset = replace(make_dataset(3), protocol="veval", annotations=read_annotations(file))
    runs = tmp_path / "runs"
    finds, silent = make_run(runs, Asked(), dataset), make_run(runs, SmallModel(), dataset, seed=1)
    for run in (finds, silent):
        assert execute(run, table=table_of_run).exit_code == 0
    folders = [finds.folder, silent.folder]
    page = report(folders, Options(annotations=file, ceilings=True))
    assert re.search(r"cgF1: small[^<]* \d+\.\d", page)
    assert page.count("was scored by veval, which keeps no matches to compare") == 1
    assert "IL_MCC</th>" in page.replace("</button>", "")
    assert "perfect" in page.lower()
    site_files = site(find_runs(runs))
    (data_page,) = (text for name, text in site_files.items() if name.endswith("val.html"))
    assert "pHOTA" in data_page
    records = [FinishedRun.open(folder).record for folder in folders]
    assert default_columns(records) == list(PHRASE_COLUMNS)
    hint = "score the run by an AP protocol, too, named first, as in ytvis,veval"
    with pytest.raises(UserError, match=f"which has no errors by kind; {hint}"):
        analyse_runs(folders, tmp_path, file)
    with pytest.raises(UserError, match=f"which keeps no matches to compare; {hint}"):
        compare_runs([FinishedRun(folder) for folder in folders])
    both = [replace(run, protocols=("ytvis", "veval")) for run in (finds, silent)]
    for run in both:
        assert execute(run).exit_code == 0
    compared = compare_runs([FinishedRun(folder) for folder in folders], annotations=file, metrics=["veval/cgF1"])
    assert compared.pairs[0].metrics["veval/cgF1"].value is not None
    alone = report(folders[:1], Options(annotations=file))
    assert re.search(r"<th>[^/]*IL_FPR@0.5", alone)
    assert "IL_FPR is the share of absent ones that are found (lower is better)" in alone
    assert len(analyse_runs(folders, tmp_path, file)) == 2  # the dataset's own protocol has no errors by kind
