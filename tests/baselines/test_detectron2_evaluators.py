"""Our scoring inside of detectron2, and our datasets in its catalogs."""

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
from dataset_copies import annotation_document, write_frames
from detectron2_library import library
from pycocotools import mask as coco

from harness.errors import UserError
from harness.formats.youtube_vis import read_annotations
from harness.scoring.score import score_results

CASES = Path(__file__).parents[1] / "data" / "protocols"
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
        assert found[part].keys() == metrics.values.keys()
        for key, value in metrics.values.items():
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
    (first, *_) = record["annotations"]
    masks = [
        np.stack([coco.decode(frame[i]["segmentation"]) for frame in record["annotations"]]) for i in range(len(first))
    ]
    return {"pred_scores": [0.9], "pred_labels": [o["category_id"] for o in first], "pred_masks": masks}


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
    with pytest.raises(UserError, match="label 5000 is none of the 1196"):
        evaluator.process([{"video_id": 1}], outputs | {"pred_labels": [5000]})
    with pytest.raises(UserError, match="has no json_file"):
        evaluators.LVVISEvaluator(registered(f"empty_{tmp_path.name}"))
    with pytest.raises(UserError, match="is registered already"):
        catalog.register("lvvis", data_root)
    with pytest.raises(UserError, match="has no frame files"):
        catalog.register("shapes", data_root)
    evaluator.process([{"video_id": 1}], outputs | {"pred_masks": masks[:, :, :10]})
    with pytest.raises(UserError, match="mask is 10x30, the video 20x30"):
        evaluator.evaluate()
