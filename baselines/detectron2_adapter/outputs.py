"""Tracks from the outputs of detectron2's video models: the usual dictionary, or `Instances` of a video or of its
frames.

Nothing here imports detectron2: `Instances` are known by their fields.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from harness.errors import UserError
from harness.masks import Rle
from harness.types import Track

ID_FIELDS = ("ID", "pred_ids", "track_ids")
"""Fields by which `Instances` of single frames identify objects; the first is detectron2's own."""
LOGITS = "interpolate_meta"
"""Key of the sizes by which logits become masks: of the image, height and width of the video, of the padded image."""
FRAMES_AT_ONCE = 20
"""Number of frames whose masks are at full size at once, as in the official evaluators."""
_HINT = "threshold them in the model, or give outputs=MODULE:FUNCTION, which makes masks of them"


class FoundObject(NamedTuple):
    """One object of a video: position of its class, score, and masks, ``None`` in frames without it."""

    label: int
    score: float
    masks: tuple[Rle | None, ...]


class ImageObjects(NamedTuple):
    """The objects of one image: positions of their classes, scores, and masks ``(n, height, width)`` of 0 and 1."""

    labels: list[int]
    scores: list[float]
    masks: NDArray[np.uint8]


def objects_of_image(outputs: Any, size: tuple[int, int], where: str) -> ImageObjects:
    """The objects in an image model's outputs: `Instances`, a dictionary with them as ``instances``, or a list of one.

    Raises `UserError` for another form, and for masks that are not of the ``size (height, width)`` of the video.
    """
    try:
        if isinstance(outputs, (list, tuple)):
            (outputs,) = outputs
        found = _instances(outputs)
        labels, scores = [int(label) for label in found.pred_classes], [float(score) for score in found.scores]
        masks = _binary(found.pred_masks, where)
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        what = f"the model's output for an image is not understood ({type(error).__name__}: {error})"
        hint = "it needs instances with pred_masks, scores and pred_classes; outputs=MODULE:FUNCTION may make them"
        raise UserError(where, what, hint) from error
    if masks.shape != (len(labels), *size) or len(scores) != len(labels):
        what = f"masks are {masks.shape}, with {len(scores)} scores and {len(labels)} labels"
        raise UserError(where, what, f"make the model give one of each per object, of {size}")
    return ImageObjects(labels, scores, masks)


def tracks_of_outputs(video_id: int, frames: int, outputs: Any, category_of: Callable[[int], int]) -> list[Track]:
    """The tracks in a model's outputs for one video of ``frames`` frames.

    ``outputs`` is one of these, or a list of one of them:

    - a dictionary with ``pred_scores (n,)``, ``pred_labels (n,)`` and ``pred_masks``, ``(frames, height, width)`` each
    - `Instances`, or a dictionary with them as ``instances``, with ``scores``, ``pred_classes`` and ``pred_masks (n,
      frames, height, width)``
    - a list of one `Instances` per frame, with ``pred_masks (n, height, width)`` and `ID_FIELDS`: a track has the mean
      of its scores and the class with the largest sum of them

    Masks are booleans, or numbers that are 0 and 1. With the key `LOGITS` in the dictionary, those of a whole video
    are logits of any size ``(frames, h, w)``: they are resized as the official evaluators of OV2Seg and CLIP-VIS do,
    and positive ones are the mask. ``category_of`` turns a label into a category id. Raises `UserError` for others.
    """
    where = f"detectron2, video {video_id}"
    try:
        found = list(_found(outputs, frames, where))
    except (AttributeError, KeyError, TypeError) as error:
        what = f"the model's output is not understood ({type(error).__name__}: {error})"
        hint = "it needs pred_masks, pred_scores, pred_labels, or Instances; outputs=MODULE:FUNCTION may make them"
        raise UserError(where, what, hint) from error
    return [Track(video_id, category_of(o.label), o.score, o.masks) for o in found]


def _found(outputs: Any, frames: int, where: str) -> Iterator[FoundObject]:
    if isinstance(outputs, (list, tuple)):
        if len(outputs) != 1 or (frames == 1 and _is_of_frame(outputs[0])):
            yield from _of_frames([_instances(o) for o in outputs], frames, where)
            return
        (outputs,) = outputs
    sizes = outputs.get(LOGITS) if isinstance(outputs, dict) else None
    if isinstance(outputs, dict) and "instances" not in outputs:
        yield from _objects(outputs["pred_labels"], outputs["pred_scores"], outputs["pred_masks"], sizes, where)
    elif _is_of_frame(outputs):
        yield from _of_frames([_instances(outputs)], frames, where)
    else:
        found = _instances(outputs)
        yield from _objects(found.pred_classes, found.scores, found.pred_masks, sizes, where)


def _instances(output: Any) -> Any:
    return output["instances"] if isinstance(output, dict) else output


def _is_of_frame(output: Any) -> bool:
    """Whether these are `Instances` of a single frame."""
    if isinstance(output, dict) and "instances" not in output:
        return False
    return len(_instances(output).pred_masks.shape) == 3


def _objects(labels: Any, scores: Any, masks: Any, sizes: Any, where: str) -> Iterator[FoundObject]:
    if not len(labels) == len(scores) == len(masks):
        what = f"{len(masks)} masks, {len(scores)} scores and {len(labels)} labels"
        raise UserError(where, what, "make the model give one of each per object")
    for label, score, mask in zip(labels, scores, masks, strict=True):
        encoded = encode(_binary(mask, where)) if sizes is None else encode_logits(mask, sizes)
        yield FoundObject(int(label), float(score), encoded)


def _of_frames(instances: list[Any], frames: int, where: str) -> Iterator[FoundObject]:
    if len(instances) != frames:
        raise UserError(where, f"Instances of {len(instances)} frames for {frames} frames", "give one per frame")
    objects: dict[Any, _ObjectOverFrames] = defaultdict(_ObjectOverFrames)
    for frame_index, found in enumerate(instances):
        ids = _ids(found, where)
        for row, identity in enumerate(ids):
            score = float(found.scores[row])
            linked = objects[identity]
            linked.scores.append(score)
            linked.by_label[int(found.pred_classes[row])] += score
            (linked.masks[frame_index],) = encode(_binary(found.pred_masks[row], where)[None])
    for linked in objects.values():
        label = max(linked.by_label, key=lambda one: linked.by_label[one])
        masks = tuple(linked.masks.get(frame_index) for frame_index in range(frames))
        yield FoundObject(label, float(np.mean(linked.scores)), masks)


@dataclass
class _ObjectOverFrames:
    """One object, collected from frames."""

    scores: list[float] = field(default_factory=list)
    by_label: dict[int, float] = field(default_factory=lambda: defaultdict(float))
    masks: dict[int, Rle] = field(default_factory=dict)


def _ids(found: Any, where: str) -> list[Any]:
    for name in ID_FIELDS:
        if hasattr(found, name):
            ids = getattr(found, name)
            return ids.tolist() if hasattr(ids, "tolist") else list(ids)
    what = "the Instances of its frames do not say which objects are the same"
    raise UserError(where, what, f"give them a field {ID_FIELDS[0]}, as detectron2's trackers do")


def _binary(mask: Any, where: str) -> NDArray[np.uint8]:
    """A mask as 0 and 1, from a tensor on any device or an array."""
    mask = getattr(mask, "tensor", mask)  # detectron2's BitMasks
    array = np.asarray(mask.detach().cpu() if hasattr(mask, "detach") else mask)
    if array.dtype.kind == "f" and ((array != 0) & (array != 1)).any():
        what = f"masks are {array.dtype} from {array.min():.3g} to {array.max():.3g}, not 0 and 1"
        raise UserError(where, what, _HINT)
    if array.dtype.kind not in "biuf":
        raise UserError(where, f"masks are {array.dtype}, not 0 and 1", _HINT)
    return np.asarray(array != 0, np.uint8)


def encode_logits(logits: Any, sizes: Sequence[Any]) -> tuple[Rle, ...]:
    """Encode mask logits ``(frames, h, w)``; ``sizes`` is the value of `LOGITS`.

    They are resized to the padded image, cut to the image and resized to the video, bilinearly, in this order.
    """
    import torch
    from torch.nn.functional import interpolate

    image, height, width, padded = sizes
    found: list[Rle] = []
    for part in torch.split(torch.as_tensor(logits).float()[None], FRAMES_AT_ONCE, dim=1):
        large = interpolate(part, size=tuple(padded), mode="bilinear", align_corners=False)
        cut = large[:, :, : int(image[0]), : int(image[1])]
        full = interpolate(cut, size=(int(height), int(width)), mode="bilinear", align_corners=False)
        found += encode((full[0] > 0).cpu().numpy().astype(np.uint8))
    return tuple(found)


def encode(masks: NDArray[np.uint8]) -> tuple[Rle, ...]:
    """Encode masks ``(frames, height, width)``; frames without the object have an empty mask, as officially."""
    from pycocotools import mask as coco

    size = (int(masks.shape[1]), int(masks.shape[2]))
    return tuple(Rle(size, rle["counts"]) for rle in coco.encode(np.asfortranarray(masks.transpose(1, 2, 0))))
