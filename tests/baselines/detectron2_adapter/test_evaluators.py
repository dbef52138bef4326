"""Our scoring inside of detectron2, and our datasets in its catalogs.

Tests of `baselines/detectron2_adapter/catalog.py`.
"""

from __future__ import annotations

import importlib
import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from dataset_copies import annotation_document, write_burst, write_frames
from detectron2_library import library
from pycocotools import mask as coco

from harness.errors import UserError
from harness.formats.youtube_vis import read_annotations
from harness.scoring.score import score_results

CASES = Path(__file__).parents[2] / "data" / "protocols"
NAMES = {"lvvis": "LVVISEvaluator", "ytvis": "YTVISEvaluator", "ovis": "OVISEvaluator", "burst": "BURSTEvaluator"}


@pytest.fixture(scope="module")
def evaluators() -> Iterator[Any]:
    with library():
        yield importlib.import_module("harness.baselines.detectron2_adapter.evaluators")


@pytest.fixture
def catalog(evaluators: Any) -> Any:
    return importlib.import_module("harness.baselines.detectron2_adapter.catalog")


def registered(name: str, **metadata: Any) -> str:
    from detectron2.data import MetadataCatalog

    MetadataCatalog.get(name).set(**metadata)
    return name


def outputs_of(results: list[dict[str, Any]], labels: dict[int, int]) -> dict[int, dict[str, Any]]:
    """What a model would have returned for results, by video; absent masks are empty ones."""
    videos: dict[int, dict[str, Any]] = {}
    for track in results:
        size = next(m["size"] for m in track["segmentations"] if m)
        masks = [coco.decode(m) if m else np.zeros(size, np.uint8) for m in track["segmentations"]]
        video = videos.setdefault(track["video_id"], {"pred_scores": [], "pred_labels": [], "pred_masks": []})
        video["pred_scores"].append(track["score"])
        video["pred_labels"].append(labels[track["category_id"]])
        video["pred_masks"].append(torch.from_numpy(np.stack(masks)).bool())
    return videos


@pytest.mark.parametrize("protocol", NAMES)
def test_the_numbers_are_those_of_the_results_file(evaluators: Any, tmp_path: Path, protocol: str) -> None:
    case = CASES / "ordinary"
    results = json.loads((case / "results.json").read_text())
    annotations = read_annotations(case / "gt.json")
    labels = {c.id: label for label, c in enumerate(annotations.categories)}
    name = registered(f"ordinary_{protocol}_{tmp_path.name}", json_file=str(case / "gt.json"))
    evaluator = getattr(evaluators, NAMES[protocol])(name, None, True, str(tmp_path / "out"))
    evaluator.reset()
    for video_id, outputs in outputs_of(results, labels).items():
        length = len(outputs["pred_masks"][0])
        evaluator.process([{"video_id": video_id, "length": length}], outputs)
    found = evaluator.evaluate()
    expected = score_results(protocol, annotations, tmp_path / "out" / "results.json")
    for part, metrics in (("segm", expected.metrics), ("segm_corrected", expected.corrected)):
        classes = {f"AP-{row['name']}": row["AP"] for row in metrics.per_category}
        assert found[part].keys() == metrics.values.keys() | classes.keys()
        for key, value in (metrics.values | classes).items():
            assert math.isnan(found[part][key]) if value is None else found[part][key] == pytest.approx(100 * value)
    direct = score_results(protocol, annotations, case / "results.json")
    assert expected.metrics.values["AP"] == pytest.approx(direct.metrics.values["AP"], abs=1e-12)


@pytest.fixture
def data_root(tmp_path: Path) -> Path:
    """A copy of LV-VIS with two videos; object v is of category v."""
    folder = tmp_path / "data" / "lvvis"
    write_frames(folder / "val" / "JPEGImages")
    for split in ("val", "test"):
        document = annotation_document("lvvis", truth=split == "val")
        (folder / f"{split}_instances_.json").write_text(json.dumps(document))
    return tmp_path / "data"


@pytest.fixture
def lvvis(catalog: Any, data_root: Path, tmp_path: Path) -> Iterator[str]:
    from detectron2.data import DatasetCatalog, MetadataCatalog

    name = catalog.register("lvvis", data_root)
    yield name
    for registry in (DatasetCatalog, MetadataCatalog):
        registry.pop(name)


def perfect(record: dict[str, Any]) -> dict[str, Any]:
    """The truth of a catalog record as a model's output."""
    size = (record["height"], record["width"])
    labels = {o["id"]: o["category_id"] for frame in record["annotations"] for o in frame}
    masks = {number: np.zeros((record["length"], *size), np.uint8) for number in labels}
    for frame_index, frame in enumerate(record["annotations"]):
        for one in frame:
            masks[one["id"]][frame_index] = coco.decode(one["segmentation"])
    return {"pred_scores": [0.9] * len(labels), "pred_labels": [*labels.values()], "pred_masks": [*masks.values()]}


def test_our_datasets_are_in_the_catalogs_with_their_truth(lvvis: str, data_root: Path) -> None:
    from detectron2.data import DatasetCatalog, MetadataCatalog
    from detectron2.structures import BoxMode

    assert lvvis == "harness_lvvis_val"
    records = DatasetCatalog.get(lvvis)
    assert [(r["video_id"], r["height"], r["width"], r["length"]) for r in records] == [(1, 20, 30, 2), (2, 20, 30, 2)]
    assert records[0]["file_names"] == [str(data_root / f"lvvis/val/JPEGImages/v1/{f}.jpg") for f in range(2)]
    assert all(Path(f).is_file() for f in records[1]["file_names"])
    (found,) = records[1]["annotations"][1]
    metadata = MetadataCatalog.get(lvvis)
    assert metadata.thing_dataset_id_to_contiguous_id[2] == found["category_id"]
    assert len(metadata.thing_classes) == 1196
    assert (found["id"], found["iscrowd"]) == (2, 0)
    assert (found["bbox"], found["bbox_mode"]) == ([2, 2, 11, 10], BoxMode.XYWH_ABS)
    assert coco.decode(found["segmentation"]).sum() == 110


def test_a_registered_dataset_is_evaluated(evaluators: Any, lvvis: str) -> None:
    from detectron2.data import DatasetCatalog

    evaluator = evaluators.LVVISEvaluator(lvvis)
    for record in DatasetCatalog.get(lvvis):
        evaluator.process([record], perfect(record))
    assert evaluator.evaluate()["segm"]["AP"] == pytest.approx(100, abs=1e-9)
    evaluator.reset()
    assert evaluator.evaluate() == {}


def test_videos_that_were_not_predicted_count_as_missed(
    evaluators: Any, lvvis: str, caplog: pytest.LogCaptureFixture
) -> None:
    from detectron2.data import DatasetCatalog

    evaluator = evaluators.LVVISEvaluator(lvvis, distributed=False)
    record = DatasetCatalog.get(lvvis)[0]
    for _ in range(2):  # samplers repeat videos to give every process the same number
        evaluator.process([record], perfect(record))
    assert evaluator.evaluate()["segm"]["AP"] == pytest.approx(50, abs=1e-9)
    assert "only 1 of 2 videos were predicted" in caplog.text


def test_withheld_truth_gives_the_file_to_submit(evaluators: Any, data_root: Path, tmp_path: Path) -> None:
    path = data_root / "lvvis" / "test_instances_.json"
    evaluator = evaluators.LVVISEvaluator(registered(f"test_{tmp_path.name}", json_file=str(path)), output_dir=tmp_path)
    masks = torch.ones(1, 2, 20, 30, dtype=torch.bool)
    evaluator.process([{"video_id": 1}], {"pred_scores": [0.5], "pred_labels": [0], "pred_masks": masks})
    assert evaluator.evaluate() == {}
    (track,) = json.loads((tmp_path / "results.json").read_text())
    assert (track["video_id"], track["category_id"], track["score"]) == (1, 1, 0.5)


def test_faults_are_told(evaluators: Any, catalog: Any, lvvis: str, data_root: Path, tmp_path: Path) -> None:
    evaluator = evaluators.LVVISEvaluator(lvvis)
    masks = torch.ones(1, 2, 20, 30, dtype=torch.bool)
    outputs = {"pred_scores": [0.5], "pred_labels": [0], "pred_masks": masks}
    with pytest.raises(UserError, match="has no video 77"):
        evaluator.process([{"video_id": 77}], outputs)
    with pytest.raises(UserError, match="label 5000 is not among the 1196"):
        evaluator.process([{"video_id": 1}], outputs | {"pred_labels": [5000]})
    with pytest.raises(UserError, match="has no json_file"):
        evaluators.LVVISEvaluator(registered(f"empty_{tmp_path.name}"))
    with pytest.raises(UserError, match="is already registered"):
        catalog.register("lvvis", data_root)
    with pytest.raises(UserError, match="has no frame files"):
        catalog.register("shapes", data_root)
    with pytest.raises(UserError, match="mask is 10x30, the video 20x30"):
        evaluator.process([{"video_id": 1}], outputs | {"pred_masks": masks[:, :, :10]})


def test_annotations_that_cannot_be_scored_are_refused_at_once(evaluators: Any, tmp_path: Path) -> None:
    document = annotation_document("lvvis")
    document["categories"][0]["partition"] = "tail"
    (tmp_path / "gt.json").write_text(json.dumps(document))
    with pytest.raises(UserError, match="partition"):
        evaluators.LVVISEvaluator(registered(f"odd_{tmp_path.name}", json_file=str(tmp_path / "gt.json")))


def test_what_was_collected_is_on_disk_before_it_is_scored(
    evaluators: Any, lvvis: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    from detectron2.data import DatasetCatalog

    def fails(*arguments: Any) -> None:
        raise MemoryError

    monkeypatch.setattr(evaluators, "score_store", fails)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    for output in (tmp_path / "out", None):
        evaluator = evaluators.LVVISEvaluator(lvvis, output_dir=output)
        evaluator.process([DatasetCatalog.get(lvvis)[0]], perfect(DatasetCatalog.get(lvvis)[0]))
        with pytest.raises(MemoryError):
            evaluator.evaluate()
        path = Path(caplog.messages[-1].partition("predictions are in ")[2])
        assert [track["video_id"] for track in json.loads(path.read_text())] == [1]


def test_each_class_has_its_own_ap_by_its_name_in_the_catalog(evaluators: Any, lvvis: str) -> None:
    from detectron2.data import DatasetCatalog, MetadataCatalog

    evaluator = evaluators.LVVISEvaluator(lvvis)
    for record in DatasetCatalog.get(lvvis)[:1]:
        evaluator.process([record], perfect(record))
    found = evaluator.evaluate()["segm"]
    names = MetadataCatalog.get(lvvis).thing_classes
    assert [key for key in found if key.startswith("AP-")] == [f"AP-{name}" for name in names]
    assert found[f"AP-{names[0]}"] == pytest.approx(100, abs=1e-9)
    assert found[f"AP-{names[1]}"] == 0  # annotated in the other video
    assert math.isnan(found[f"AP-{names[2]}"])


def test_logits_and_forms_of_its_own_are_scored_as_in_runs(evaluators: Any, lvvis: str) -> None:
    """A video of 20x30, logits at a quarter of 32x32: those of the official evaluators' form, and of another one."""
    from detectron2.data import DatasetCatalog
    from detectron2.structures import Instances

    logits = torch.full((1, 2, 8, 8), -1.0)
    logits[:, :, 0:3, 0:3] = 1.0
    fields = {"pred_masks": logits, "scores": torch.tensor([0.9]), "pred_classes": torch.tensor([0])}
    sizes = ((20, 30), 20, 30, (32, 32))
    known = [{"instances": Instances((20, 30), **fields), "interpolate_meta": sizes}]
    records = DatasetCatalog.get(lvvis)
    evaluator = evaluators.LVVISEvaluator(lvvis)
    evaluator.process([records[0]], known)
    expected = evaluator.evaluate()["segm"]["AP"]
    assert expected > 0

    def own(outputs: Any, inputs: list[dict[str, Any]]) -> Any:
        assert inputs[0]["video_id"] == 1
        return [{"instances": outputs["mine"], "interpolate_meta": sizes}]

    evaluator = evaluators.LVVISEvaluator(lvvis, outputs=own)
    evaluator.process([records[0]], {"mine": Instances((20, 30), **fields)})
    assert evaluator.evaluate()["segm"]["AP"] == expected
    with pytest.raises(UserError, match="is not MODULE:FUNCTION"):
        evaluators.LVVISEvaluator(lvvis, outputs="nowhere")


def removed(name: str) -> None:
    from detectron2.data import DatasetCatalog, MetadataCatalog

    for registry in (DatasetCatalog, MetadataCatalog):
        registry.pop(name)


@pytest.mark.usefixtures("data_root")
def test_paths_in_the_catalog_are_absolute(catalog: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from detectron2.data import DatasetCatalog, MetadataCatalog

    monkeypatch.chdir(tmp_path)
    name = catalog.register("lvvis", "data")
    found = [MetadataCatalog.get(name).json_file, *DatasetCatalog.get(name)[0]["file_names"]]
    removed(name)
    assert all(Path(path).is_absolute() and Path(path).is_file() for path in found)


def test_annotations_of_ones_own_are_registered_and_evaluated(
    evaluators: Any, catalog: Any, data_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from detectron2.data import DatasetCatalog

    monkeypatch.chdir(data_root)
    own = f"own_{tmp_path.name}"
    name = catalog.register_annotations(own, "lvvis/val_instances_.json", "lvvis/val/JPEGImages", "ytvis")
    assert name == own
    records = DatasetCatalog.get(name)
    assert all(Path(path).is_absolute() and Path(path).is_file() for r in records for path in r["file_names"])
    evaluator = evaluators.YTVISEvaluator(name)
    for record in records:
        evaluator.process([record], perfect(record))
    assert evaluator.evaluate()["segm"]["AP"] == pytest.approx(100, abs=1e-9)
    removed(name)
    with pytest.raises(UserError, match="voc"):
        catalog.register_annotations("x", "lvvis/val_instances_.json", "lvvis/val/JPEGImages", "voc")


def test_burst_is_registered_in_its_own_form_and_evaluated(evaluators: Any, catalog: Any, tmp_path: Path) -> None:
    from detectron2.data import DatasetCatalog

    write_burst(tmp_path)
    name = catalog.register("burst", tmp_path)
    evaluator = evaluators.BURSTEvaluator(name)
    for record in DatasetCatalog.get(name):
        evaluator.process([record], perfect(record))
    found = evaluator.evaluate()
    removed(name)
    assert found["segm"]["AP-apricot"] == pytest.approx(100, abs=1e-9)
    assert found["segm"]["AP-airplane"] == 0  # its only object has id 0, which the official tool never matches
    assert found["segm_corrected"]["AP"] == pytest.approx(100, abs=1e-9)
