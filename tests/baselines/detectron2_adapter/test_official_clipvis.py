"""The official CLIP-VIS under the detectron2 adapter, by settings alone: the tracks of our `clipvis`.

Runs where ``HARNESS_CLIPVIS`` names its source tree and ``HARNESS_DETECTRON2`` that of detectron2, with what both need
(see `detectron2_library`; CLIP-VIS asks for open_clip 2.24). The weights are the recipe's, of the released size.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import weight_recipe
from detectron2_library import FOLDERS, NAMED, command
from PIL import Image
from pycocotools import mask as coco

from harness.models.clipvis.network import ClipVisArchitecture, ClipVisNetwork

SOURCE = os.environ.get("HARNESS_CLIPVIS", "")
WORDS = ("cat", "dog,puppy", "red car", "traffic_light", "elephant")
FRAMES, HEIGHT, WIDTH, SHORT_EDGE, TRACKS = 4, 60, 80, 64, 20

pytestmark = pytest.mark.skipif(not SOURCE or not NAMED, reason="needs HARNESS_CLIPVIS and HARNESS_DETECTRON2")


@pytest.fixture
def clip(tmp_path: Path) -> Path:
    """A folder with a dataset of one video, and with weights as several GPUs leave them."""
    (tmp_path / "frames").mkdir()
    names = [f"{f:05d}.png" for f in range(FRAMES)]
    rng = np.random.default_rng(0)
    patch = rng.integers(0, 255, (24, 24, 3), np.uint8)
    for frame_index, name in enumerate(names):
        image = np.full((HEIGHT, WIDTH, 3), 90, np.uint8)
        image[10:34, 8 * frame_index : 8 * frame_index + 24] = patch
        Image.fromarray(image).save(tmp_path / "frames" / name)
    video = {"id": 1, "height": HEIGHT, "width": WIDTH, "length": FRAMES, "file_names": names}
    categories = [{"id": i, "name": name, "partition": 0} for i, name in enumerate(WORDS, 1)]
    (tmp_path / "gt.json").write_text(json.dumps({"videos": [video], "categories": categories, "annotations": None}))
    with torch.device("meta"):
        network = ClipVisNetwork(ClipVisArchitecture("RN50"))
    state = weight_recipe.state(network.state_dict())
    torch.save({"model": {f"module.{name}": tensor for name, tensor in state.items()}}, tmp_path / "model.pth")
    return tmp_path


def tracks(folder: Path, model: str, *settings: str) -> list[dict[str, Any]]:
    given = ["run", "--model", model, "--checkpoint", "model.pth", "--annotations", "gt.json", "--frames", "frames",
             "--protocol", "ytvis", "--device", "cpu", "--no-mlflow", "--json"]  # fmt: skip
    done = command(
        folder, [*given, *(f"--set={setting}" for setting in settings)], FOLDERS if model == "detectron2" else ()
    )
    assert done.returncode == 0, done.stderr
    (record,) = json.loads(done.stdout)["runs"]
    exported = command(folder, ["export", record["folder"], "--format", "results", "--out", f"{model}.json"], ())
    assert exported.returncode == 0, exported.stderr
    found: list[dict[str, Any]] = json.loads((folder / f"{model}.json").read_text())
    return found


def same(one: dict[str, Any], other: dict[str, Any]) -> bool:
    """Whether two tracks are the same within the tolerances of the golden vectors."""
    if one["category_id"] != other["category_id"] or abs(one["score"] - other["score"]) >= 2e-4:
        return False
    pairs = zip(one["segmentations"], other["segmentations"], strict=True)
    filled = ((a, b) for a, b in pairs if coco.area(a) or coco.area(b))
    return all(coco.iou([a], [b], [False])[0, 0] >= 0.99 for a, b in filled)


def test_it_runs_by_settings_alone_and_gives_the_tracks_of_ours(clip: Path) -> None:
    theirs = tracks(
        clip, "detectron2", f"config_file={SOURCE}/configs/clipvis_video_R50.yaml", f"project={SOURCE}",
        "setup=[detectron2.projects.deeplab:add_deeplab_config, clipvis:add_clipvis_config]",
        "class_counts=TEST.TEST_NUM_CLASSES", "options.MODEL.FC_CLIP.CLIP_MODEL_NAME=RN50-quickgelu",
        "options.MODEL.FC_CLIP.CLIP_PRETRAINED_WEIGHTS=", "options.MODEL.MASK_FORMER.DEC_LAYERS=7",
        f"options.INPUT.MIN_SIZE_TEST={SHORT_EDGE}", f"options.TEST.DETECTIONS_PER_IMAGE={TRACKS}",
    )  # fmt: skip
    ours = tracks(clip, "clipvis", f"short_edge={SHORT_EDGE}", f"detections_per_video={TRACKS}")
    assert len(ours) == len(theirs) == TRACKS
    for track in theirs:  # equal scores have no order: each of theirs is one of ours
        ours.remove(next(one for one in ours if same(one, track)))
