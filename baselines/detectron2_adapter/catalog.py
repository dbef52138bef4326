"""The harness's datasets in detectron2's catalogs, in the format of VIS projects' data mappers; on request only."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from harness import plugins
from harness.baselines.detectron2_adapter import missing_package_error
from harness.datasets.youtube_vis_format import open_custom
from harness.errors import UserError
from harness.image_files import ImageFrames
from harness.masks import Rle
from harness.scoring.protocols import get_protocol
from harness.types import Dataset, Video

try:
    from detectron2.data import DatasetCatalog, MetadataCatalog
    from detectron2.structures import BoxMode
except ImportError as error:
    raise missing_package_error(error) from error


def register(dataset: str, data_root: str | Path, split: str | None = None) -> str:
    """Register a split of a dataset plugin as ``harness_{dataset}_{split}`` and return that name.

    The annotations are read now, frames when they are used. Classes are in order of category ids; paths are absolute.
    Raises `UserError` for a dataset that is missing or has no frame files, and for one that is already registered.
    """
    opened = plugins.opened(dataset, Path(data_root).absolute(), split)
    return _register(opened, f"harness_{opened.name}_{opened.split}")


def register_annotations(name: str, annotations: str | Path, frames: str | Path, protocol: str) -> str:
    """Register data of your own as ``name``, and return it: a file in YouTube-VIS form, and the folder of its frames.

    ``protocol`` is ``lvvis``, ``ytvis``, ``ovis`` or ``burst``. Raises `UserError` as `register` does, and for a file
    that is malformed.
    """
    chosen = get_protocol(protocol).name
    return _register(open_custom(Path(annotations).absolute(), Path(frames).absolute(), chosen), name)


def _register(opened: Dataset, name: str) -> str:
    if name in DatasetCatalog:
        raise UserError(f"detectron2 dataset {name}", "is already registered", "register it once")
    without = next((v for v in opened.videos if not isinstance(v.frames, ImageFrames)), None)
    if without is not None:
        where = f"{opened.name} {opened.split}"
        raise UserError(where, "has no frame files", "detectron2 reads frames from files only")
    labels = {category.id: label for label, category in enumerate(opened.categories)}
    DatasetCatalog.register(name, lambda: [_record(opened, video, labels) for video in opened.videos])
    MetadataCatalog.get(name).set(
        json_file=opened.annotations.path,
        thing_classes=[category.name for category in opened.categories],
        thing_dataset_id_to_contiguous_id=labels,
        evaluator_type=opened.protocol,
    )
    return name


def _record(dataset: Dataset, video: Video, labels: dict[int, int]) -> dict[str, Any]:
    """A video in the form that mappers expect: file names, size, and a list of objects per frame."""
    assert isinstance(video.frames, ImageFrames)  # ensured by `register`
    truth = dataset.truth
    objects: list[list[dict[str, Any]]] = [[] for _ in range(len(video.frames))]
    for track in truth.tracks_of(video.id) if truth is not None else ():
        for in_frame, mask in zip(objects, track.masks, strict=False):
            if mask is not None:
                in_frame.append(_object(track.id, labels[track.category_id], track.is_crowd, mask))
    return {
        "file_names": [str(video.frames.root / name) for name in video.frames.file_names],
        "height": video.height,
        "width": video.width,
        "length": len(video.frames),
        "video_id": video.id,
        "annotations": objects,
    }


def _object(track_id: int, label: int, is_crowd: bool, mask: Rle) -> dict[str, Any]:
    from pycocotools import mask as coco

    encoded = {"size": list(mask.size), "counts": mask.counts}
    box = coco.toBbox(encoded).tolist()
    kind = {"id": track_id, "category_id": label, "iscrowd": int(is_crowd)}
    return {**kind, "segmentation": encoded, "bbox": box, "bbox_mode": BoxMode.XYWH_ABS}
