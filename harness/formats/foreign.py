"""Files of other tools and benchmarks given as annotations or results: recognised by their shape, and named.

Each message says what the file is and what to do.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from harness.errors import UserError
from harness.formats import lenient
from harness.formats.containers import open_json

PER_TRACK = "write one record per object and video, with segmentations: one mask or null per frame"
_LARGEST_HEAD = 64 << 20
"""Up to this size a file of another form is parsed, so that it can be named."""
_LISTS = ("annotations", "results", "predictions", "tracks")
_BURST_TASKS = "score it with protocol burst-class-guided, burst-exemplar-guided or burst-open-world"
_MMTRACKING = ("det_bboxes", "det_masks", "track_bboxes", "track_masks", "bbox_results", "mask_results")


def refuse_foreign_annotations(document: Any, annotations: bytes, name: str) -> None:
    """Raise `UserError` for the document of another form; ``annotations`` is the beginning of that key's text."""
    if isinstance(document, list):
        what, hint = "is a list, not an object with videos, categories and annotations", "name the annotation file"
        if document and isinstance(document[0], dict) and {"video_id", "segmentations"} <= document[0].keys():
            what, hint = "is a results file, not an annotation file", "give it as predictions"
        raise UserError(name, what, hint)
    if not isinstance(document, dict):
        raise UserError(name, "is not an object with videos, categories and annotations", "name the annotation file")
    if document.get("images") and b'"segmentations"' not in annotations:
        scored = "score it with protocol teta or teta-tao, or " if "videos" in document else ""
        raise UserError(name, _image_form(document), f"{scored}convert it with `harness convert --from coco`")
    for key in ("videos", "categories"):
        if key not in document:
            raise UserError(name, f"lacks {key}", "write videos, categories and annotations")


def _image_form(document: dict[str, Any]) -> str:
    if "videos" not in document:
        return "is a COCO file of images, without videos"
    form = "TAO's form" if "tracks" in document else "CocoVID form"
    return f"is in {form}, with one annotation per image"


def foreign_results(path: Path) -> UserError:
    """The error for a results file that is not a list of tracks."""
    with open_json(path) as file:
        head = file.read(_LARGEST_HEAD)
        whole = not file.read(1)
    hint = "a results file is a JSON list of tracks"
    if not whole:
        return UserError(str(path), "is not a list", hint)
    try:
        document = lenient.loads(head, str(path))
    except UserError as error:
        return error
    return UserError(str(path), *_of_results(document, hint))


def _of_results(document: Any, hint: str) -> tuple[str, str]:
    if not isinstance(document, dict):
        return "is not a list", hint
    if "sequences" in document:
        return "is in BURST's own form", _BURST_TASKS
    if any(key in document for key in _MMTRACKING):
        return "is a results file of mmtracking or mmdetection, by key and frame", PER_TRACK
    if "videos" in document and "categories" in document:
        return "is an annotation file, not a results file", "give it as annotations"
    inner = [key for key in _LISTS if isinstance(document.get(key), list)]
    if inner:
        return f'is an object, with a list under "{inner[0]}"', "write that list alone"
    return "is an object, not a list", hint


def refuse_foreign_record(record: dict[str, Any], where: str) -> None:
    """Raise `UserError` for a record of another form of results."""
    if "segmentations" in record:
        return
    if "image_id" in record or "frame_id" in record or "frame" in record:
        raise UserError(where, "holds one frame (COCO's results per image)", PER_TRACK)
    if "segmentation" in record:
        raise UserError(where, 'has "segmentation" but no "segmentations"', "name its masks segmentations, with an s")
