"""TAO and OVT-B: where their files may lie, what a run sees of them, how results per frame are scored on them.

Tests of `datasets/ovtb.py` and `datasets/tao.py`.
"""

from __future__ import annotations

import csv
import gc
import json
from pathlib import Path

import pytest
from PIL import Image
from typer.testing import CliRunner, Result

from harness import load_dataset
from harness.cli.main import build
from harness.datasets.coco_video_format import as_tracks
from harness.datasets.ovtb import PLUGIN as OVTB
from harness.datasets.tao import PLUGIN as TAO
from harness.errors import UserError
from harness.formats.coco_video import read_coco_video
from harness.formats.youtube_vis import read_annotations

GOLDEN = Path(__file__).parents[1] / "data" / "teta"
FEDERATED = GOLDEN / "tao_federated"


def harness(*arguments: str | Path) -> Result:
    done = CliRunner().invoke(build(), [str(a) for a in arguments])
    gc.enable()  # harness eval does without, as its process ends with it
    return done


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A data root with a small TAO, frames and all."""
    truth = json.loads((FEDERATED / "gt.json").read_text())
    (tmp_path / "tao" / "annotations").mkdir(parents=True)
    (tmp_path / "tao" / "annotations" / "validation.json").write_text(json.dumps(truth))
    for image in truth["images"]:
        path = tmp_path / "tao" / "frames" / image["file_name"]
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (image["width"], image["height"])).save(path)
    return tmp_path


def test_a_run_sees_videos_and_categories(root: Path) -> None:
    dataset = TAO.open(root, "val")
    assert (dataset.name, dataset.split, dataset.protocol, dataset.differences) == ("tao", "val", "teta-tao", None)
    assert [len(video.frames) for video in dataset.videos] == [5, 4, 6, 6]
    assert dataset.videos[0].frames[0].shape == (dataset.videos[0].height, dataset.videos[0].width, 3)
    assert dataset.truth is not None
    assert len(dataset.truth.records) == len(json.loads((FEDERATED / "gt.json").read_text())["tracks"])


def test_the_file_that_tetas_authors_score_on_is_preferred(root: Path) -> None:
    other = root / "tao" / "annotations" / "validation_ours_v1.json"
    other.write_text((GOLDEN / "tao_merged" / "gt.json").read_text())
    assert TAO.frame_truth(root, "val").path == str(other)


def test_categories_are_merged_in_the_federated_variant_only() -> None:
    file = read_coco_video(GOLDEN / "tao_merged" / "gt.json")
    assert file is not None
    merged = {m.id: c.id for c in file.categories for m in c.merged}
    kept = {record.category_id for record in as_tracks(file, federated=False).scored_truth.records}  # type: ignore[union-attr]
    assert kept & merged.keys()
    found = {record.category_id for record in as_tracks(file, federated=True).scored_truth.records}  # type: ignore[union-attr]
    assert not found & merged.keys()


def test_rare_categories_are_novel(root: Path) -> None:
    path = root / "tao" / "annotations" / "validation.json"
    truth = json.loads(path.read_text())
    for category, frequency in zip(truth["categories"], "frcfrc", strict=True):
        category["frequency"] = frequency
    path.write_text(json.dumps(truth))
    assert [c.groups for c in TAO.open(root, "val").categories] == [
        ("base",), ("novel",), ("base",), ("base",), ("novel",), ("base",)
    ]  # fmt: skip
    arguments = ("eval", "--dataset", "tao", "--data-root", root, "--predictions", FEDERATED / "predictions.json")
    record = json.loads(harness(*arguments, "--json").stdout)
    harness(*arguments, "--per-category", root / "rows.csv")
    with (root / "rows.csv").open() as file:
        rows = [row for row in csv.DictReader(file) if row["TETA_box"]]
    for group, numbers in (("base", ("1", "3", "4", "6")), ("novel", ("2", "5"))):
        values = [float(row["TETA_box"]) for row in rows if row["id"] in numbers]
        assert record["slices"]["groups"][group]["TETA_box"] == pytest.approx(sum(values) / len(values))


def test_eval_on_the_dataset_is_eval_on_its_file(root: Path) -> None:
    predictions = FEDERATED / "predictions.json"
    by_name = harness("eval", "--dataset", "tao", "--data-root", root, "--predictions", predictions, "--json")
    by_file = harness("eval", "--protocol", "teta-tao", "--annotations", FEDERATED / "gt.json", "--predictions",
                     predictions, "--json")  # fmt: skip
    assert by_name.exit_code == by_file.exit_code == 0
    assert json.loads(by_name.stdout)["metrics"] == json.loads(by_file.stdout)["metrics"]
    assert json.loads(by_name.stdout)["protocol"]["score_threshold"] is None


def test_a_run_is_scored_on_all_of_its_tracks(root: Path, tmp_path: Path) -> None:
    ran = harness("run", "--model", "oracle", "--dataset", "tao", "--data-root", root, "--runs-dir", tmp_path,
                 "--no-mlflow")  # fmt: skip
    assert ran.exit_code == 0, ran.output
    folder = next(tmp_path.glob("oracle-tao-val-*"))
    record = json.loads((folder / "metrics.json").read_text())
    assert record["protocol"] == {"name": "teta-tao", "version": "1", "score_threshold": None}
    assert 0 < record["metrics"]["TETA_box"] < 1
    again = harness("eval", "--dataset", "tao", "--data-root", root, "--predictions", folder, "--json")
    assert json.loads(again.stdout)["metrics"] == record["metrics"]
    assert json.loads(again.stdout)["protocol"] == record["protocol"]


def test_what_does_not_go_together_is_refused(root: Path) -> None:
    predictions = FEDERATED / "predictions.json"
    for arguments, said in (
        (("--dataset", "tao", "--data-root", root, "--protocol", "lvvis"), "has boxes, which lvvis does not compare"),
        (("--dataset", "lvvis", "--annotations", FEDERATED / "gt.json"), "score it with protocol teta or teta-tao"),
        (("--dataset", "lvvis", "--protocol", "teta", "--annotations", FEDERATED / "gt.json"), "lvvis is not"),
        (("--dataset", "tao", "--annotations", GOLDEN / "ordinary" / "gt.json"), "is in YouTube-VIS form, tao is not"),
        (("--protocol", "lvvis", "--annotations", FEDERATED / "gt.json"), "score it with protocol teta or teta-tao"),
    ):
        done = harness("eval", *arguments, "--predictions", predictions)
        assert said in str(done.exception)
    with pytest.raises(UserError, match="teta or teta-tao"):
        read_annotations(FEDERATED / "gt.json")
    (root / "ovtb").mkdir()
    (root / "ovtb" / "ovtb_ann.json").write_text((GOLDEN / "ordinary" / "gt.json").read_text())
    with pytest.raises(UserError, match="not in COCO-video form"):
        OVTB.open(root, "test")
    with pytest.raises(UserError, match="no such split"):
        OVTB.open(root, "val")


def test_check_counts_what_the_paper_states(root: Path) -> None:
    assert harness("datasets", "check", "tao", "--data-root", root, "--split", "val").exit_code == 0
    (root / "ovtb").mkdir()
    (root / "ovtb" / "ovtb_ann.json").write_text((FEDERATED / "gt.json").read_text())
    done = harness("datasets", "check", "ovtb", "--data-root", root, "--json")
    assert done.exit_code == 1
    (split,) = json.loads(done.stdout)["splits"]
    assert split["expected"] == {"videos": 1973, "frames": None, "tracks": None, "categories": 1048}
    assert any("637608 expected" in fault for fault in split["faults"])
    assert split["missing_frames"]["count"] == 21
    assert OVTB.open(root, "test").differences == ("4 videos, 1973 expected", "49 annotated boxes, 637608 expected")
    assert harness("datasets", "check", "ovtb", "--data-root", root / "nowhere").exit_code == 1


@pytest.mark.parametrize(("protocol", "metric"), [("teta", "TETA"), ("hota", "HOTA"), ("veval", "pHOTA")])
def test_own_data_may_have_any_protocol_of_tracks_as_its_own(protocol: str, metric: str, tmp_path: Path) -> None:
    truth = json.loads((GOLDEN / "ordinary" / "gt.json").read_text())
    for video in truth["videos"]:
        for name in video["file_names"]:
            (tmp_path / "frames" / name).parent.mkdir(parents=True, exist_ok=True)
            Image.new("RGB", (video["width"], video["height"])).save(tmp_path / "frames" / name)
    del truth["video_np_pairs"]  # each video is asked for all categories at once
    (tmp_path / "gt.json").write_text(json.dumps(truth))
    ran = harness("run", "--model", "oracle", "--annotations", tmp_path / "gt.json", "--frames", tmp_path / "frames",
                  "--protocol", f"{protocol},ytvis", "--runs-dir", tmp_path, "--no-mlflow")  # fmt: skip
    assert ran.exit_code == 0, ran.output
    record = json.loads((next(tmp_path.glob("oracle-gt-*")) / "metrics.json").read_text())
    assert [one["protocol"]["name"] for one in record["protocols"]] == [protocol, "ytvis"]
    assert 0 < record["metrics"][metric] < 1
    assert (
        load_dataset(annotations=tmp_path / "gt.json", frames=tmp_path / "frames", protocol=protocol).protocol
        == protocol
    )
