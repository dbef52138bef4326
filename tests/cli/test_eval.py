"""``harness eval`` as others call it: one JSON object, the same numbers as the golden ones, one line per refusal.

Tests of `harness/cli/options.py`.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner
from vis_documents import document, perfect

from harness.cli.main import build


def harness(*arguments: str | Path, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-P", "-c", "from harness.cli.main import main; main()", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=300, cwd=cwd)


@pytest.fixture
def files(tmp_path: Path) -> tuple[Path, Path]:
    gt, results = tmp_path / "gt.json", tmp_path / "results.json"
    gt.write_text(json.dumps(document()))
    results.write_text(json.dumps(perfect(document())))
    return gt, results


def test_json_contract_on_a_golden_case(golden: Path) -> None:
    folder = golden / "ordinary"
    done = harness("eval", "--protocol", "lvvis", "--annotations", folder / "gt.json", "--predictions",
                   folder / "results.json", "--json")  # fmt: skip
    assert done.returncode == 0, done.stderr
    record = json.loads(done.stdout)
    assert record["protocol"] == {"name": "lvvis", "version": "1"}
    expected = json.loads((folder / "expected.json").read_text())["protocols"]["lvvis"]
    names = ["AP", "AP50", "AP75", "APs", "APm", "APl", "AR1", "AR10", "AR100", "ARs", "ARm", "ARl"]
    for suffix, key in (("", "stats"), ("b", "stats_b"), ("n", "stats_n")):
        for name, number in zip(names, expected[key], strict=True):
            value = record["metrics"][name + suffix]
            assert value is None if number == -1 else value == pytest.approx(number, abs=1e-12)
            assert name + suffix in record["corrected"]
    assert set(record["undefined"]["metrics"]) == {k for k, v in record["metrics"].items() if v is None}


def test_both_tools_of_bursts_exemplar_guided_task(golden: Path) -> None:
    folder = golden / "burst_exemplar_unknown_track"
    arguments = ("eval", "--protocol", "burst-exemplar-guided", "--annotations", folder / "gt", "--predictions",
                 folder / "predictions.json")  # fmt: skip
    shown = harness(*arguments)
    assert shown.returncode == 0, shown.stderr
    assert "TrackEval" in shown.stdout
    assert "undefined (TrackEval): the tool aborts: " in shown.stderr
    assert "track 7: is not a track of the truth" in shown.stderr
    record = json.loads(harness(*arguments, "--json").stdout)
    assert record["trackeval"].keys() == record["metrics"].keys()
    assert record["metrics"]["HOTA_all"] == pytest.approx(1)
    assert record["trackeval"]["HOTA_all"] is None


def test_all_on_files_in_bursts_form_is_its_three_tasks(golden: Path, tmp_path: Path) -> None:
    folder = golden / "burst_tasks"
    predictions = ("--predictions", folder / "predictions.json", "--json")
    done = harness("eval", "--protocol", "all", "--annotations", folder / "gt", *predictions)
    assert done.returncode == 0, done.stderr
    records = json.loads(done.stdout)["protocols"]
    tasks = ["burst-class-guided", "burst-exemplar-guided", "burst-open-world"]
    assert [one["protocol"]["name"] for one in records] == tasks
    alone = harness("eval", "--protocol", tasks[0], "--annotations", folder / "gt", *predictions)
    assert json.loads(alone.stdout) == records[0]
    (tmp_path / "burst/annotations").mkdir(parents=True)
    (tmp_path / "burst/annotations/val").symlink_to((folder / "gt").resolve())
    done = harness("eval", "--protocol", "all", "--dataset", "burst", "--data-root", tmp_path, *predictions)
    assert done.returncode == 0, done.stderr
    of_dataset = json.loads(done.stdout)["protocols"]
    assert [one["metrics"] for one in of_dataset] == [one["metrics"] for one in records]
    assert of_dataset[0]["comparable"] is False


def test_a_protocol_of_tracks_removes_no_task_of_burst(golden: Path) -> None:
    folder = golden / "burst_tasks"
    done = harness("eval", "--protocol", "hota,burst-class-guided,burst", "--annotations", folder / "gt",
                   "--predictions", folder / "predictions.json", "--json")  # fmt: skip
    assert done.returncode == 2
    hota, task, burst = json.loads(done.stdout)["protocols"]
    assert "is in BURST's own form" in hota["error"]
    assert "is in BURST's own form" in burst["error"]
    assert task["metrics"]["HOTA_all"] > 0


def test_several_protocols_at_once(golden: Path) -> None:
    folder = golden / "ordinary"
    files = ("--annotations", folder / "gt.json", "--predictions", folder / "results.json", "--json")
    done = harness("eval", "--protocol", "lvvis,hota,fixed-ap,ovis-fixed", "--score-threshold", "0.5",
                   "--tracks-per-category", "7", *files)  # fmt: skip
    assert done.returncode == 0, done.stderr
    records = json.loads(done.stdout)["protocols"]
    assert [record["protocol"] for record in records] == [
        {"name": "lvvis", "version": "1"},
        {"name": "hota", "version": "1", "score_threshold": 0.5},
        {"name": "lvvis-fixed", "version": "1", "tracks_per_category": 7},
        {"name": "ovis-fixed", "version": "1", "tracks_per_category": 7},
    ]
    for record in records:
        assert record.keys() >= {"metrics", "corrected", "undefined", "warnings", "counts", "slices"}
    assert {"HOTA", "HOTA_det", "HOTAb", "IDF1"} <= records[1]["metrics"].keys()
    assert {"AP", "AR", "APb", "ARn"} <= records[2]["metrics"].keys()
    alone = harness("eval", "--protocol", "hota", "--score-threshold", "0.5", *files)
    assert json.loads(alone.stdout) == records[1]


def test_a_protocol_that_refuses_leaves_the_others_their_numbers(tmp_path: Path) -> None:
    gt, results = tmp_path / "gt.json", tmp_path / "results.json"
    truth = document()
    truth["annotations"][0]["iscrowd"] = "maybe"
    gt.write_text(json.dumps(truth))
    results.write_text(json.dumps(perfect(truth)))
    files = ("--annotations", gt, "--predictions", results)
    done = harness("eval", "--protocol", "lvvis,hota,burst-open-world", *files, "--json")
    assert done.returncode == 2
    refused, found, task = json.loads(done.stdout)["protocols"]
    assert refused["protocol"] == {"name": "lvvis"}
    assert 'iscrowd is "maybe"' in refused["error"]
    assert found["metrics"]["HOTA"] == 1
    assert "all_classes.json" in task["error"]
    assert "harness: lvvis: " in done.stderr
    shown = harness("eval", "--protocol", "lvvis,hota", *files)
    assert shown.returncode == 2
    assert "hota (version 1" in shown.stdout


def test_truth_without_partitions_has_corrected_numbers_without_groups(tmp_path: Path) -> None:
    gt, results = tmp_path / "gt.json", tmp_path / "results.json"
    truth = document()
    for category in truth["categories"]:
        del category["partition"]
    gt.write_text(json.dumps(truth))
    results.write_text(json.dumps(perfect(truth)))
    files = ("--annotations", gt, "--predictions", results, "--json")
    done = harness("eval", "--protocol", "lvvis", *files)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert set(found["metrics"].values()) == {None}
    reason = "the official lvvis tool aborts: category 1 (cat): has no partition that is an integer"
    assert found["undefined"]["metrics"]["AP"].startswith(reason)
    assert (found["corrected"]["AP"], found["corrected"]["APb"], found["corrected"]["APn"]) == (1, None, None)
    assert found["undefined"]["corrected"]["APn"] == "no category is novel"
    assert found["warnings"][0]["kind"] == "category without partition, which is in no group"
    assert harness("eval", "--protocol", "lvvis", "--strict", *files).returncode == 2


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ("hota,fixed-ap",),
            "protocol fixed-ap: needs a dataset; name a dataset, or a protocol such as ytvis-fixed",
        ),
        (("all",), "protocol all: needs a dataset; name a dataset, or the protocols"),
        (("hotas",), 'protocol "hotas": is unknown; did you mean "hota"?'),
        ((" , ",), "protocol: names nothing"),
        (("lvvis", "--score-threshold", "0.5"), "score_threshold: is a setting of hota; add hota to the protocols"),
        (("hota", "--score-threshold", "nan"), "score_threshold: is nan; write a finite number"),
        (("hota", "--tracks-per-category", "5"), "tracks_per_category: is a setting of Fixed AP; add fixed-ap"),
        (
            ("lvvis,hota", "--per-category", "rows.csv"),
            "--per-category: needs a single protocol; name one with --protocol",
        ),
    ],
)
def test_protocols_that_are_refused(files: tuple[Path, Path], arguments: tuple[str, ...], message: str) -> None:
    gt, results = files
    done = harness("eval", "--annotations", gt, "--predictions", results, "--protocol", *arguments)
    assert done.returncode == 2
    assert f"harness: {message}" in done.stderr


def test_ovis_and_burst_keys(golden: Path) -> None:
    folder = golden / "ordinary"
    for protocol, keys in (("ovis", {"APso", "APmo", "APho", "ARso", "ARmo", "ARho"}), ("burst", {"APc", "AP50u"})):
        done = harness("eval", "--protocol", protocol, "--annotations", folder / "gt.json", "--predictions",
                       folder / "results.json", "--json")  # fmt: skip
        assert keys <= set(json.loads(done.stdout)["metrics"])


def test_table_and_csv_for_people(files: tuple[Path, Path], tmp_path: Path) -> None:
    gt, results = files
    out = tmp_path / "rows.csv"
    done = harness("eval", "--protocol", "lvvis", "--annotations", gt, "--predictions", results, "--per-category", out)
    assert done.returncode == 0
    assert "official" in done.stdout
    assert "100.00" in done.stdout
    header, cat, yak = out.read_text().splitlines()
    assert header.startswith("id,name,groups,AP")
    assert cat.startswith("1,cat,base")
    assert yak.startswith("2,yak,novel")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--protocol", "lvvsi"], 'did you mean "lvvis"'),
        (["--protocol", "lvvis", "--annotations", "nowhere.json"], "nowhere.json"),
        (["--protocol", "lvvis"], "--dataset"),
        (["--dataset", "lvvsi"], 'did you mean "lvvis"'),
        (["--dataset", "ytvis2019"], "ytvis2019"),
    ],
)
def test_refusals_are_one_line_and_exit_code_2(
    files: tuple[Path, Path], tmp_path: Path, arguments: list[str], words: str
) -> None:
    gt, results = files
    if arguments == ["--protocol", "lvvsi"]:
        arguments = [*arguments, "--annotations", str(gt)]
    done = harness("eval", *arguments, "--predictions", results, cwd=tmp_path)
    assert done.returncode == 2
    assert done.stdout == ""
    assert words in done.stderr
    assert "Traceback" not in done.stderr
    assert done.stderr.count("\n") == 1


def test_odd_input_scores_with_a_warning_and_strict_refuses(files: tuple[Path, Path]) -> None:
    gt, results = files
    odd: list[dict[str, Any]] = json.loads(results.read_text())
    odd[1]["segmentations"] = odd[1]["segmentations"][:1]
    results.write_text(json.dumps(odd))
    arguments = ("eval", "--protocol", "lvvis", "--annotations", gt, "--predictions", results)
    done = harness(*arguments)
    assert done.returncode == 0
    assert "record 1" in done.stderr
    assert json.loads(harness(*arguments, "--json").stdout)["warnings"][0]["count"] == 1
    assert harness(*arguments, "--strict").returncode == 2


NOTHING_FOUND = "there are no predictions; the official lvvis tool aborts on an empty list"
NOTHING_ANNOTATED = "no annotated track: the videos have no annotations"


@pytest.mark.parametrize(
    ("protocol", "changes", "predictions", "official", "corrected", "reason"),
    [
        ("lvvis", {}, [], None, 0, NOTHING_FOUND),
        ("lvvis-corrected", {}, [], 0, 0, None),
        ("lvvis", {"annotations": []}, None, None, None, NOTHING_ANNOTATED),
        ("lvvis", {"annotations": []}, [], None, None, NOTHING_ANNOTATED),
        ("ytvis", {"annotations": ...}, None, None, None, NOTHING_ANNOTATED),
        ("ytvis", {"categories": [{"id": 1, "name": "cat"}]}, None, 0, None, None),
        ("lvvis", {"categories": [{"id": 1, "name": "cat", "partition": 0}]}, None, None, None, "no category is novel"),
    ],
    ids=["nothing found", "corrected", "no annotations", "nothing at all", "no key", "no mask", "no group"],
)
def test_nothing_is_a_normal_case(
    tmp_path: Path, protocol: str, changes: Any, predictions: Any, official: Any, corrected: Any, reason: str | None
) -> None:
    truth = document()
    gt, results = tmp_path / "gt.json", tmp_path / "results.json"
    results.write_text(json.dumps(perfect(truth) if predictions is None else predictions))
    if "categories" in changes:  # and the only track has no mask
        truth["annotations"] = truth["annotations"][:1]
        truth["annotations"][0] |= {"segmentations": [None, None], "areas": [None, None]}
    gt.write_text(json.dumps({key: value for key, value in (truth | changes).items() if value is not ...}))
    files = ("--protocol", protocol, "--annotations", gt, "--predictions", results)
    done = harness("eval", *files, "--json")
    assert done.returncode == 0, done.stderr
    record = json.loads(done.stdout)
    assert (record["metrics"]["AP"], record["corrected"]["AP"]) == (official, corrected)
    assert record["undefined"]["metrics"].get("AP", "") == "" if reason is None else reason in done.stdout
    if reason is not None:
        assert reason in harness("eval", *files).stderr


def test_withheld_truth_is_refused(files: tuple[Path, Path]) -> None:
    gt, results = files
    gt.write_text(json.dumps(document() | {"annotations": None}))
    done = harness("eval", "--protocol", "lvvis", "--annotations", gt, "--predictions", results)
    assert (done.returncode, done.stdout) == (2, "")
    assert "has no annotations" in done.stderr


def test_predictions_of_foreign_categories_only_are_no_empty_list(files: tuple[Path, Path]) -> None:
    gt, results = files
    results.write_text(json.dumps([{**one, "category_id": 0} for one in perfect(document())]))
    done = harness("eval", "--protocol", "lvvis", "--annotations", gt, "--predictions", results, "--json")
    record = json.loads(done.stdout)
    assert (record["metrics"]["AP"], record["corrected"]["AP"]) == (0, 0)
    assert [warning["kind"] for warning in record["warnings"]] == ["category not in the annotations, track dropped"]


def test_official_abort_names_the_corrected_protocol(golden: Path) -> None:
    folder = golden / "ids_gap_error"
    files = ("--annotations", folder / "gt.json", "--predictions", folder / "results.json", "--json")
    done = harness("eval", "--protocol", "lvvis", *files)
    assert done.returncode == 0
    record = json.loads(done.stdout)
    assert set(record["metrics"].values()) == {None}
    assert "lvvis-corrected" in record["undefined"]["metrics"]["AP"]
    corrected = json.loads(harness("eval", "--protocol", "lvvis-corrected", *files).stdout)
    assert corrected["metrics"]["AP"] == record["corrected"]["AP"] is not None
    assert harness("eval", "--protocol", "lvvis", "--strict", *files).returncode == 2


def test_a_shared_dataset_can_be_scored_by_name(tmp_path: Path) -> None:
    out = tmp_path / "results.json"
    made = harness("run", "--model", "oracle", "--dataset", "shapes", "--no-mlflow", "--json", cwd=tmp_path)
    record = json.loads(made.stdout)["runs"][0]
    folder = tmp_path / record["folder"]
    assert harness("export", folder, "--format", "results", "--out", out, cwd=tmp_path).returncode == 0
    scored = json.loads(harness("eval", "--dataset", "shapes", "--predictions", out, "--json").stdout)
    assert scored["metrics"] == record["metrics"]
    assert scored["corrected"] == record["corrected"]
    from_store = json.loads(harness("eval", "--dataset", "shapes", "--predictions", folder, "--json").stdout)
    assert from_store["metrics"] == record["metrics"]


VEVAL = Path(__file__).parents[1] / "data" / "veval"


def veval(case: str, *options: str | Path) -> subprocess.CompletedProcess[str]:
    folder = VEVAL / case
    return harness("eval", "--protocol", "veval", "--annotations", folder / "gt.json", "--predictions",
                   folder / "predictions.json", *options)  # fmt: skip


def test_veval_gives_one_object_and_a_row_for_every_pair(tmp_path: Path) -> None:
    done = veval("ordinary", "--json", "--per-category", tmp_path / "pairs.csv")
    assert done.returncode == 0, done.stderr
    record = json.loads(done.stdout)
    assert record["protocol"] == {"name": "veval", "version": "1"}
    assert {"metrics", "corrected", "undefined", "warnings", "counts", "slices"} <= record.keys()
    official = json.loads((VEVAL / "ordinary/expected.json").read_text())["official"]
    cgf1 = official["cgf1"]["mask"]["dataset_results"]["video_mask_demo_cgf1_micro_50_95"]
    assert record["metrics"]["cgF1"] == pytest.approx(cgf1, rel=0, abs=1e-12)
    assert record["metrics"].keys() == record["corrected"].keys()
    assert len((tmp_path / "pairs.csv").read_text().splitlines()) == 1 + record["counts"]["pairs"]


def test_veval_says_why_an_evaluator_aborts_and_strict_refuses() -> None:
    done = veval("no_boxes", "--json")
    assert done.returncode == 0, done.stderr
    record = json.loads(done.stdout)
    assert set(record["metrics"].values()) == {None}
    assert all("aborts" in reason for reason in record["undefined"]["metrics"].values())
    assert record["corrected"]["cgF1"] is not None
    shown = veval("no_boxes")
    assert "TypeError" in shown.stderr
    assert "corrected: boxes and areas are those of the masks" in shown.stderr
    refused = veval("no_boxes", "--strict", "--json")
    assert (refused.returncode, refused.stdout) == (2, "")
    assert refused.stderr.count("\n") == 1
    assert "aborts" in refused.stderr


def test_veval_refuses_an_unknown_video() -> None:
    done = veval("unknown_video", "--json")
    assert done.returncode == 2
    assert "record 12: unknown video 77" in done.stderr


def test_ceilings_stand_beside_the_numbers(golden: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    folder = golden / "ordinary"
    given = ["--annotations", str(folder / "gt.json"), "--predictions", str(folder / "results.json"), "--ceilings"]
    done = CliRunner().invoke(build(), ["eval", "--protocol", "lvvis,hota,fixed-ap", *given, "--json"])
    assert done.exit_code == 0, done.output
    record = json.loads(done.stdout)
    rows = record["ceilings"]["rows"]
    assert len(rows) == 8
    for one in record["protocols"]:
        assert rows[0]["metrics"][one["protocol"]["name"]] == one["metrics"]
    alone = CliRunner().invoke(build(), ["eval", "--protocol", "lvvis", *given, "--json"])
    assert json.loads(alone.stdout)["ceilings"]["rows"][7]["metrics"]["lvvis"] == rows[7]["metrics"]["lvvis"]
    text = CliRunner().invoke(build(), ["eval", "--protocol", "lvvis,teta", *given])
    assert "harness: no ceilings: teta" in text.stderr
    assert "classes + masks + links + presence" in text.stdout
    refused = CliRunner().invoke(build(), ["eval", "--protocol", "teta", *given])
    assert refused.exit_code == 2
    assert "harness: ceilings: --ceilings: do not exist for teta" in refused.stderr


def test_no_predictions_have_numbers_or_reasons_but_no_ceilings(golden: Path) -> None:
    folder = golden / "no_predictions"
    given = ["--annotations", str(folder / "gt.json"), "--predictions", str(folder / "results.json"), "--ceilings"]
    done = CliRunner().invoke(build(), ["eval", "--protocol", "lvvis", *given, "--json"])
    assert done.exit_code == 2
    record = json.loads(done.stdout)
    assert record["metrics"]["AP"] is None
    assert "holds no predictions" in record["ceilings"]["error"]


def test_scoring_starts_without_what_it_does_not_need(files: tuple[Path, Path]) -> None:
    gt, results = files
    code = (
        "import sys; from harness.cli import main; main._leave = lambda code: None\n"
        f"sys.argv[1:] = ['eval', '--protocol', 'lvvis', '--annotations', {str(gt)!r},"
        f" '--predictions', {str(results)!r}, '--json']\n"
        "main.main()\n"
        "print(sorted(sys.modules.keys() & {'scipy.linalg', 'pyarrow', 'torch', 'pandas', 'harness.cli.run'}))\n"
        "import scipy.linalg; print(scipy.linalg.det([[2.0]]))"
    )
    done = subprocess.run([sys.executable, "-P", "-c", code], capture_output=True, text=True, timeout=60)
    assert done.stdout.splitlines()[1:] == ["[]", "2.0"], done.stderr


@pytest.mark.parametrize("name", ["eval", "datasets"])
def test_the_command_that_is_asked_for_is_all_that_is_built(name: str) -> None:
    whole, part = build(), build(name)
    shown = [CliRunner().invoke(app, [name, "--help"]).output for app in (whole, part)]
    assert shown[0] == shown[1] != ""
    assert len(part.registered_commands) + len(part.registered_groups) == 1
