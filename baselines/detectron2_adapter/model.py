"""A detectron2 video model as a model of the harness: built from its config, fed with resized frames and our words."""

from __future__ import annotations

import importlib
import logging
import pickle
import sys
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import torch

from harness.baselines.detectron2_adapter import missing
from harness.baselines.detectron2_adapter.config import Detectron2Config
from harness.baselines.detectron2_adapter.outputs import tracks_of
from harness.errors import UserError
from harness.frames import Image
from harness.models.shared.checkpoint_files import refuse_not_finite
from harness.types import LoadContext, Track, Video, Vocabulary

try:
    from detectron2.config import get_cfg
    from detectron2.data import MetadataCatalog
    from detectron2.data.transforms import ResizeShortestEdge
    from detectron2.modeling import build_model
except ImportError as error:
    raise missing(error) from error

log = logging.getLogger(__name__)

PRECISIONS = {"bf16": torch.bfloat16, "fp16": torch.float16}


class Detectron2Model:
    """Finds tracks with a detectron2 model (`harness.types.Model`); ``cfg`` is the config that it was built from."""

    def __init__(self, network: Any, cfg: Any, precision: str = "fp32") -> None:
        self.network, self.cfg, self.precision = network.eval(), cfg, precision
        smallest, largest = cfg.INPUT.MIN_SIZE_TEST, cfg.INPUT.MAX_SIZE_TEST
        self._resize = ResizeShortestEdge([smallest, smallest], largest)

    @torch.inference_mode()
    def predict(self, video: Video, vocabulary: Vocabulary) -> list[Track]:
        """The tracks of ``video``. Labels are positions in the vocabulary, or in the model's own list of classes.

        The model is given what detectron2's video data loaders give: all frames ``(3, height, width)`` uint8 as
        ``image``, resized as the config's INPUT says, and the size, length and id of the video; open-vocabulary models
        find the words as ``thing_classes`` of the dataset that ``dataset_name`` and ``meta`` name.
        """
        if not vocabulary.categories:
            return []
        name = _words(vocabulary)
        inputs = {
            "image": [self._prepared(image) for image in video.read()],
            "height": video.height,
            "width": video.width,
            "length": len(video.frames),
            "video_id": video.id,
            "file_names": [f"{video.name}/{index:05d}" for index in range(len(video.frames))],
            "dataset_name": name,
            "meta": {"dataset_name": name},
        }
        mixed = PRECISIONS.get(self.precision)
        device = torch.device(self.cfg.MODEL.DEVICE).type
        with torch.autocast(device, dtype=mixed) if mixed else nullcontext():
            outputs = self.network([inputs])
        ids = [category.id for category in vocabulary.categories]

        def category_of(label: int) -> int:
            if not 0 <= label < len(ids):
                what = f"label {label} for a vocabulary of {len(ids)} names"
                raise UserError(f"detectron2, video {video.id}", what, "run it on the dataset whose classes it knows")
            return ids[label]

        return tracks_of(video.id, len(video.frames), outputs, category_of)

    def _prepared(self, image: Image) -> torch.Tensor:
        """A frame resized and in the colour order of the config, ``(3, height, width)`` uint8."""
        ordered = image[:, :, ::-1] if self.cfg.INPUT.FORMAT == "BGR" else image
        ordered = np.ascontiguousarray(ordered)
        resized = self._resize.get_transform(ordered).apply_image(ordered)
        return torch.as_tensor(np.ascontiguousarray(resized.transpose(2, 0, 1)))


def _words(vocabulary: Vocabulary) -> str:
    """Name of a catalog entry that holds the vocabulary."""
    name = f"harness_words_{vocabulary.digest[:16]}"
    positions = {category.id: index for index, category in enumerate(vocabulary.categories)}
    names = [category.name for category in vocabulary.categories]
    MetadataCatalog.get(name).set(thing_classes=names, thing_dataset_id_to_contiguous_id=positions)
    return name


def load_model(config: Detectron2Config, context: LoadContext) -> Detectron2Model:
    """Build the model that ``config`` describes with the weights of ``context.checkpoint``.

    Raises `UserError` where there are no weights, a module of ``setup`` does not load, a key of the config is unknown,
    or the weights are of another model.
    """
    if context.checkpoint is None:
        raise UserError("detectron2", "has no weights", "give --checkpoint FILE")
    if config.project is not None and str(config.project.resolve()) not in sys.path:
        sys.path.insert(0, str(config.project.resolve()))
    cfg = get_cfg()
    for name in config.setup:
        _set_up(name, cfg)
    try:
        cfg.merge_from_file(str(config.config_file), allow_unsafe=False)  # its default runs code that a file names
        cfg.merge_from_list(config.settings())
        cfg.MODEL.DEVICE = context.device
        cfg.freeze()
        network = build_model(cfg)
    except (KeyError, ValueError, AssertionError) as error:  # what detectron2 raises for keys, values and names
        what = f"the model cannot be built: {' '.join(str(error).split())}"
        hint = "name in setup what adds the project's keys and models (MODULE, MODULE:FUNCTION)"
        raise UserError(str(config.config_file), what, hint) from error
    _load_weights(network, context.checkpoint)
    return Detectron2Model(network, cfg, context.precision)


def _set_up(name: str, cfg: Any) -> None:
    module, colon, function = name.partition(":")
    try:
        imported = importlib.import_module(module)
        if colon:
            getattr(imported, function)(cfg)
    except (ImportError, AttributeError) as error:
        hint = "name the project's folder as project, and the module as it is imported there"
        raise UserError(f"detectron2, setup {name}", f"does not load: {error}", hint) from error


def _load_weights(network: torch.nn.Module, path: Path) -> None:
    """Load a checkpoint (a state, or one under ``model``); what does not fit is said, as detectron2 does."""
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except OSError as error:
        raise UserError(str(path), error.strerror or "cannot be read", "check the path") from error
    except (pickle.UnpicklingError, RuntimeError, EOFError) as error:
        hint = 'save it again as torch.save({"model": model.state_dict()}, FILE)'
        raise UserError(str(path), "is no checkpoint of tensors alone", hint) from error
    state = content.get("model", content) if isinstance(content, dict) else {}
    for name, value in state.items() if isinstance(state, dict) else ():
        if isinstance(value, torch.Tensor) and value.is_floating_point():
            refuse_not_finite(value, str(name), path, "give weights of a training that went well")
    try:
        keys = network.load_state_dict(state, strict=False)
    except (RuntimeError, TypeError, AttributeError) as error:
        what = f"does not fit the model: {' '.join(str(error).split())[:300]}"
        raise UserError(str(path), what, "give the weights of this config") from error
    if len(keys.missing_keys) == len(network.state_dict()):
        raise UserError(str(path), "has no weight of the model", "give the weights of this config")
    for kind, names in (("lacks", keys.missing_keys), ("has besides", keys.unexpected_keys)):
        if names:
            log.warning("%s: %s %s weights, first: %s", path, kind, len(names), names[0])
