"""``harness record`` and ``harness verify``: numbers of a run that others score again.

Tests of `harness/cli/verify.py` and `harness/result_record.py`.
"""

from __future__ import annotations

import gzip
import json
import re
import shutil
import zipfile
from getpass import getuser
from pathlib import Path
from typing import Any

import pytest
import yaml
from small_runs import SmallModel, make_dataset, make_run, truth_of
from typer.testing import CliRunner
from vis_documents import document, perfect

from harness.cli.main import build
from harness.errors import UserError
from harness.export import export_results
from harness.formats.youtube_vis import read_annotations
from harness.result_record import (
    RecordedData,
    RecordedModel,
    RecordedScores,
    RecordedTracks,
    SignedRecord,
    digest_of_results,
    digest_of_store,
    record_of_run,
    signed,
    verify_record,
    without_paths,
)
from harness.result_record import read_record as read
from harness.run_folder.checksums import write_sums
from harness.run_folder.finished_run import FinishedRun
from harness.run_folder.layout import content_digest
from harness.run_folder.schemas import ProtocolRecord
from harness.runner import execute
from harness.scoring.dispatch import Settings
from harness.types import Track


def command(*arguments: str | Path) -> Any:
    return CliRunner().invoke(build(), [str(one) for one in arguments])


def two_tracks(video: int) -> list[Track]:
    return [Track(video, 1, 0.9, truth_of(video)), Track(video, 2, 0.25, (None, *truth_of(video)[1:]))]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> FinishedRun:
    """A run that three protocols scored."""
    one = make_run(
        tmp_path_factory.mktemp("runs"),
        SmallModel(tracks=two_tracks),
        protocols=("lvvis", "hota", "lvvis-fixed"),
        scoring=Settings(0.5, 20),
    )
    execute(one)
    return FinishedRun(one.folder)


@pytest.fixture(scope="module")
def truth(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The truth of that run as a file."""
    from harness.formats.youtube_vis import annotations_from_document

    dataset = make_dataset()
    path = tmp_path_factory.mktemp("truth") / "gt.json"
    found = dataset.annotations
    records = [
        {"id": v, "video_id": v, "category_id": 1, "iscrowd": 0, "areas": [30] * 3,
         "segmentations": [{"size": list(m.size), "counts": m.counts.decode()} for m in truth_of(v)]}
        for v in range(1, 5)
    ]  # fmt: skip
    whole = {
        "videos": [
            {"id": v.id, "height": v.height, "width": v.width, "length": v.length, "file_names": list(v.file_names)}
            for v in found.videos
        ],
        "categories": [{"id": c.id, "name": c.name, "partition": c.partition} for c in found.categories],
        "annotations": records,
    }
    assert annotations_from_document(whole, "x").truth is not None
    path.write_text(json.dumps(whole))
    return path


@pytest.fixture
def record(run: FinishedRun, truth: Path, tmp_path: Path) -> Path:
    """The record of that run, as if it had been scored by the file."""
    path = tmp_path / "small.json"
    content = record_of_run(run)
    content["dataset"]["digest"] = read_annotations(truth).digest
    path.write_text(json.dumps(signed(content)))
    return path


def test_a_record_has_numbers_digests_and_versions_but_nothing_private(run: FinishedRun, tmp_path: Path) -> None:
    done = command("record", run.folder, "--out", tmp_path / "out/small.json", "--hub-dataset", "me/small")
    assert done.exit_code == 0, done.output
    text = (tmp_path / "out/small.json").read_text()
    found = json.loads(text)
    assert found["format"] == 1
    assert found["sha256"] == content_digest({key: value for key, value in found.items() if key != "sha256"})
    assert found["model"]["name"] == "small"
    assert found["dataset"] == {
        "name": "small",
        "split": "val",
        "digest": run.content.digest,
        "videos": 4,
        "scored": None,
    }
    assert found["predictions"] == digest_of_store(run.store)
    assert found["predictions"]["tracks"] == 8
    protocols = [one["protocol"] for one in found["protocols"]]
    assert [one["name"] for one in protocols] == ["lvvis", "hota", "lvvis-fixed"]
    assert (protocols[1]["score_threshold"], protocols[2]["tracks_per_category"]) == (0.5, 20)
    assert found["protocols"][0]["metrics"] == run.record["metrics"]
    assert found["environment"]["packages"].keys() >= {"numpy", "numba"}
    assert "data" not in found["environment"]
    assert str(run.folder.parent) not in text
    assert getuser() == "root" or getuser() not in text


def test_the_hub_gets_an_entry_for_each_task(run: FinishedRun, tmp_path: Path) -> None:
    given = ("--hub-dataset", "me/small", "--source-url", "https://example.org/small.json")
    assert (
        command("record", run.folder, "--out", tmp_path / "a.json", *given, "--task", "lvvis/AP50=val").exit_code == 0
    )
    (entry,) = yaml.safe_load((tmp_path / ".eval_results/a.yaml").read_text())
    assert entry["dataset"] == {"id": "me/small", "task_id": "val"}
    assert entry["value"] == 100 * run.record["metrics"]["AP50"]
    assert entry["source"]["url"] == "https://example.org/small.json"
    assert json.loads((tmp_path / "a.json").read_text())["sha256"] in entry["notes"]
    assert entry.keys() == {"dataset", "value", "date", "source", "notes"}
    done = command("record", run.folder, "--out", tmp_path / "b.json")
    assert "name it with --hub-dataset" in done.stderr
    entries = yaml.safe_load((tmp_path / ".eval_results/b.yaml").read_text())
    assert [one["dataset"]["task_id"] for one in entries] == ["lvvis/AP", "hota@0.5/HOTA", "lvvis-fixed/AP"]
    for task, message in (("lvvis/APX=val", "is no number of this record"), ("AP", "is not PROTOCOL/METRIC=TASK")):
        done = command("record", run.folder, "--out", tmp_path / "c.json", "--task", task)
        assert message in str(done.exception)


def test_predictions_in_every_form_are_equal(run: FinishedRun, record: Path, truth: Path, tmp_path: Path) -> None:
    results = tmp_path / "results.json"
    export_results(run.folder, results)
    (tmp_path / "results.json.gz").write_bytes(gzip.compress(results.read_bytes()))
    with zipfile.ZipFile(tmp_path / "results.zip", "w") as archive:
        archive.write(results, "results.json")
    forms = (results, tmp_path / "results.json.gz", tmp_path / "results.zip", run.folder, run.folder / "predictions")
    for place in forms:
        done = command("verify", record, "--predictions", place, "--annotations", truth)
        assert done.exit_code == 0, f"{place}: {done.output}"
        assert "equal: " in done.stdout
    told = json.loads(command("verify", record, "--predictions", results, "--annotations", truth, "--json").stdout)
    assert told["equal"] is True
    assert told["compared"] > 50
    assert (told["inputs"], told["metrics"]) == ([], [])


def test_other_predictions_are_named_before_the_numbers(
    record: Path, run: FinishedRun, truth: Path, tmp_path: Path
) -> None:
    export_results(run.folder, tmp_path / "results.json")
    rows = json.loads((tmp_path / "results.json").read_text())
    rows[0]["score"] = 0.1
    rows[0]["segmentations"][0] = None
    (tmp_path / "results.json").write_text(json.dumps(rows))
    given = ("verify", record, "--predictions", tmp_path / "results.json", "--annotations", truth)
    done = command(*given, "--json")
    assert done.exit_code == 1
    told = json.loads(done.stdout)
    assert [one["what"] for one in told["inputs"]] == ["predictions"]
    wrong = {one["what"]: one for one in told["metrics"]}
    assert wrong["lvvis/AP"]["difference"] == wrong["lvvis/AP"]["obtained"] - wrong["lvvis/AP"]["recorded"]
    assert "hota/HOTA" in wrong
    shown = command(*given).stdout
    assert shown.index("the predictions differ from those of the record") < shown.index("numbers differ")


def test_a_changed_record_is_named(record: Path, run: FinishedRun, truth: Path) -> None:
    found = json.loads(record.read_text())
    before = found["protocols"][0]["metrics"]["AP"]
    found["protocols"][0]["metrics"]["AP"] = before - 0.125
    record.write_text(json.dumps(found))
    given = ("verify", record, "--predictions", run.folder, "--annotations", truth)
    done = command(*given)
    assert done.exit_code == 1
    assert "the record was changed after it was written" in done.stdout
    told = json.loads(command(*given, "--json").stdout)
    assert [(one["what"], one["recorded"], one["obtained"]) for one in told["metrics"]] == [
        ("lvvis/AP", before - 0.125, before)
    ]
    # who signs again what was changed is found out by the number itself
    record.write_text(json.dumps(signed({k: v for k, v in found.items() if k not in ("sha256", "format", "harness")})))
    told = json.loads(command(*given, "--json").stdout)
    assert told["inputs"] == []
    assert [one["what"] for one in told["metrics"]] == ["lvvis/AP"]


def test_other_annotations_are_named(record: Path, run: FinishedRun, truth: Path, tmp_path: Path) -> None:
    (tmp_path / "gt.json").write_text(truth.read_text() + "\n")
    done = command("verify", record, "--predictions", run.folder, "--annotations", tmp_path / "gt.json", "--json")
    assert done.exit_code == 1
    told = json.loads(done.stdout)
    assert ([one["what"] for one in told["inputs"]], told["metrics"]) == (["annotations"], [])


def test_a_part_of_a_split_is_verified_on_that_part(tmp_path: Path) -> None:
    one = make_run(tmp_path, SmallModel(tracks=two_tracks), limit=2)
    execute(one)
    content = record_of_run(FinishedRun(one.folder))
    assert content["dataset"]["scored"] == [1, 2]
    assert content["not_comparable"]
    (tmp_path / "r.json").write_text(json.dumps(signed(content)))
    execute(make_run(tmp_path, SmallModel(tracks=two_tracks)))  # the same folder, now with all four videos
    record, digest = read(tmp_path / "r.json")
    assert verify_record(record, digest, FinishedRun(one.folder).store, one.dataset.annotations).equal


def test_eval_writes_a_record(tmp_path: Path) -> None:
    gt, results, path = tmp_path / "gt.json", tmp_path / "results.json", tmp_path / "record.json"
    gt.write_text(json.dumps(document()))
    rows = perfect(document())
    rows[0]["score"] = 0.25  # below the threshold of TETA, which is none of HOTA
    results.write_text(json.dumps(rows))
    files = ("--annotations", gt, "--predictions", results)
    done = command("eval", "--protocol", "lvvis,hota,fixed-ap,teta", *files, "--json", "--record", path)
    assert done.exit_code == 0, done.output
    record, digest = read(path)
    assert record.sha256 == digest
    assert [one.protocol.name for one in record.protocols] == ["lvvis", "hota", "lvvis-fixed", "teta"]
    assert record.model is None
    assert str(tmp_path) not in path.read_text()
    assert command("verify", path, *files).exit_code == 0
    done = command("verify", path, "--predictions", results)
    assert "names no dataset; name the annotation file with --annotations" in str(done.exception)


def test_tasks_on_bursts_own_files_have_records(golden: Path, tmp_path: Path) -> None:
    case, path = golden / "burst_merged_distractors", tmp_path / "record.json"
    files = ("--annotations", case / "gt", "--predictions", case / "predictions.json")
    done = command("eval", "--protocol", "burst-class-guided,burst-open-world", *files, "--json", "--record", path)
    assert done.exit_code == 0, done.output
    record, digest = read(path)
    assert record.sha256 == digest
    assert [one.protocol.name for one in record.protocols] == ["burst-class-guided", "burst-open-world"]
    assert [one.metrics for one in record.protocols] == [one["metrics"] for one in json.loads(done.stdout)["protocols"]]
    assert str(tmp_path) not in path.read_text()
    predictions = json.loads((case / "predictions.json").read_text())
    named = [{track for frame in one["segmentations"] for track in frame} for one in predictions["sequences"]]
    assert record.predictions.tracks == sum(map(len, named))
    again = tmp_path / "again.json"
    again.write_text(json.dumps(predictions, indent=1))
    whole = ("--annotations", case / "gt" / "all_classes.json", "--predictions", again)
    assert command("verify", path, *whole).exit_code == 0

    for one in predictions["sequences"]:
        one["segmentations"] = [{} for _ in one["segmentations"]]
    again.write_text(json.dumps(predictions))
    done = command("verify", path, *whole, "--json")
    told = json.loads(done.stdout)
    assert done.exit_code == 1
    assert [one["what"] for one in told["inputs"]] == ["predictions", "number of tracks"]
    assert "burst-class-guided/HOTA_all" in [one["what"] for one in told["metrics"]]
    done = command("verify", path, "--predictions", again)
    assert "burst-class-guided is needed" not in str(done.exception)
    assert "--annotations" in str(done.exception)
    done = command("eval", "--protocol", "burst-class-guided,teta", *files, "--record", path)
    assert "score them one after the other" in str(done.exception)


def test_masks_count_and_not_how_they_are_written(tmp_path: Path) -> None:
    gt = tmp_path / "gt.json"
    gt.write_text(json.dumps(document()))
    rows = perfect(document())
    (tmp_path / "a.json").write_text(json.dumps(rows))
    text = json.dumps(list(reversed(rows)), indent=2)
    counts = rows[0]["segmentations"][0]["counts"]
    escaped = "".join(f"\\u{ord(letter):04x}" for letter in counts)
    (tmp_path / "b.json").write_text(text.replace(json.dumps(counts), f'"{escaped}"'))
    truth = read_annotations(gt)
    assert digest_of_results(tmp_path / "a.json", truth) == digest_of_results(tmp_path / "b.json", truth)
    rows[0]["score"] = 0.123
    (tmp_path / "b.json").write_text(json.dumps(rows))
    assert digest_of_results(tmp_path / "a.json", truth) != digest_of_results(tmp_path / "b.json", truth)


def test_what_cannot_be_read_is_an_error(record: Path, run: FinishedRun, truth: Path, tmp_path: Path) -> None:
    (tmp_path / "list.json").write_text("[]")
    (tmp_path / "future.json").write_text('{"format": 9}')
    (tmp_path / "empty").mkdir()
    for given, message in (
        ((tmp_path / "nothing.json", run.folder, truth), "No such file"),
        ((tmp_path / "list.json", run.folder, truth), "is not a record"),
        ((tmp_path / "future.json", run.folder, truth), "another version of the harness"),
        ((record, tmp_path / "nothing", truth), "does not exist"),
        ((record, tmp_path / "empty", truth), "holds no predictions"),
        ((record, run.folder, tmp_path / "nothing.json"), "No such file"),
    ):
        done = command("verify", given[0], "--predictions", given[1], "--annotations", given[2])
        assert isinstance(done.exception, UserError)
        assert message in str(done.exception)


def test_a_measured_cost_is_in_the_record_without_paths(run: FinishedRun, truth: Path, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    shutil.copytree(run.folder, folder)
    fit = {"fixed": 0.25, "per_unit": 0.5, "residual": 0.0, "r2": 1.0}
    points = [{"value": v, "seconds": 1.0, "frames_per_second": 20.0, "memory_bytes": 9} for v in (1, 10)]
    bench = {
        "format": 2, "model": "small", "device": "cpu", "hardware": "a CPU", "precision": "fp32", "size": [12, 16],
        "threads": 1, "repeats": 2, "base": {"words": 1}, "config": {"weights": "/home/somebody/weights.pth"},
        "axes": [{"axis": "words", "points": points, "time": fit, "memory": fit}],
    }  # fmt: skip
    (folder / "bench.json").write_text(json.dumps(bench))
    write_sums(folder)
    assert command("record", folder, "--out", tmp_path / "r.json").exit_code == 0
    recorded = json.loads((tmp_path / "r.json").read_text())["cost"]
    assert recorded["axes"][0]["time"] == fit
    assert recorded["config"] == {"weights": "weights.pth"}
    verified = command("verify", tmp_path / "r.json", "--predictions", folder, "--annotations", truth, "--json")
    assert [one["what"] for one in json.loads(verified.stdout)["inputs"]] == ["annotations"]  # of the run in memory


def test_missing_predictions_are_not_recorded(run: FinishedRun, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    shutil.copytree(run.folder, folder)
    (folder / "predictions" / "1.parquet").unlink()
    done = command("record", folder, "--out", tmp_path / "r.json")
    what = "has predictions of 3 videos, but its numbers cover 4; repeat its `harness run`, which scores it again"
    assert str(done.exception) == f"{folder}: {what}"
    assert not (tmp_path / "r.json").exists()


def test_records_that_nothing_can_be_compared_with_are_refused(
    record: Path, run: FinishedRun, truth: Path, tmp_path: Path
) -> None:
    content = json.loads(record.read_text())
    files = ("--predictions", run.folder, "--annotations", truth)
    other = tmp_path / "other.json"
    other.write_text(json.dumps({**content, "protocols": []}))
    assert str(command("verify", other, *files).exception).startswith(f"{other}: has no numbers; use a record that")
    content["protocols"][0]["protocol"]["name"] = "later"
    other.write_text(json.dumps(content))
    assert str(command("verify", other, *files).exception) == (
        f'{other}: has numbers by protocol "later", which is unknown here; install the version of the harness that'
        " wrote it"
    )
    below = command("record", run.folder, "--out", record / "inner.json")
    assert str(below.exception) == f"{record}: is no folder (File exists); name another file"


def test_every_field_is_on_the_page() -> None:
    page = (Path(__file__).parents[2] / "docs/verifying.md").read_text(encoding="utf-8")
    table = page.partition("## The file")[2].partition("The digest of predictions")[0]
    kinds = (SignedRecord, RecordedModel, RecordedData, RecordedTracks, RecordedScores, ProtocolRecord)
    fields = {field for kind in kinds for field in kind.__struct_fields__}
    assert fields - set(re.findall(r"`(\w+)`", table)) == set()


def test_a_run_without_numbers_is_refused(tmp_path: Path) -> None:
    one = make_run(tmp_path, dataset=make_dataset(with_truth=False))
    execute(one)
    with pytest.raises(UserError, match="has no numbers to record"):
        record_of_run(FinishedRun(one.folder))


@pytest.mark.parametrize(
    ("text", "public"),
    [
        ("/home/jane/weights/clip.pt", "clip.pt"),
        ("~/clip.pt", "clip.pt"),
        ("C:\\Users\\Jane\\clip.pt", "clip.pt"),
        ("../jane/clip.pt", "clip.pt"),
        ("python /home/jane/run.py --fast", "(left out: names a path)"),
        ("laion/CLIP-convnext", "laion/CLIP-convnext"),
        ("first 6 videos only (--limit 6)", "first 6 videos only (--limit 6)"),
        ("12 of 837 videos", "12 of 837 videos"),
    ],
)
def test_of_a_path_the_last_part_stays(text: str, public: str) -> None:
    assert without_paths(text) == public
