"""A detectron2 video model as a model of the harness: built from its config, with resized frames and the vocabulary
as input."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import torch

from harness.baselines.detectron2_adapter import missing_package_error
from harness.baselines.detectron2_adapter.config import Detectron2Config
from harness.baselines.detectron2_adapter.network import NetworkBuilder
from harness.baselines.detectron2_adapter.outputs import ImageObjects, objects_of_image, tracks_of_outputs
from harness.baselines.detectron2_adapter.user_code import function_of
from harness.baselines.detectron2_adapter.words import entry_of, were_read
from harness.errors import UserError
from harness.frames import Image
from harness.precision import dtype_of
from harness.types import LoadContext, Track, Video, Vocabulary

try:
    from detectron2.data.transforms import ResizeShortestEdge
except ImportError as error:
    raise missing_package_error(error) from error


class Detectron2Model:
    """Finds tracks with a detectron2 model (`harness.types.Model`), built for ``vocabulary`` as ``network``."""

    def __init__(
        self, builder: NetworkBuilder, checkpoint: Path, vocabulary: Vocabulary, precision: str = "fp32"
    ) -> None:
        self.builder, self.checkpoint, self.precision = builder, checkpoint, precision
        self.cfg = builder.cfg
        self.network, self.loaded_weights = builder.load(vocabulary, checkpoint)
        self._vocabulary, self._digest = vocabulary, vocabulary.digest
        config = builder.config
        self._outputs = function_of(config.outputs, "outputs") if config.outputs else None
        smallest, largest = self.cfg.INPUT.MIN_SIZE_TEST, self.cfg.INPUT.MAX_SIZE_TEST
        self._resize = ResizeShortestEdge([smallest, smallest], largest)

    @torch.inference_mode()
    def predict(self, video: Video, vocabulary: Vocabulary) -> list[Track]:
        """The tracks of ``video``. Labels are positions in the vocabulary, or in the model's own list of classes.

        The model's input is that of detectron2's video data loaders: all frames ``(3, height, width)`` uint8 as
        ``image``, resized as the config's INPUT says, and the size, length and id of the video; open-vocabulary models
        find the words as ``thing_classes`` of the dataset that DATASETS.TEST, ``dataset_name`` and ``meta`` name. For
        another vocabulary the model gets it, or is built again.
        """
        if not vocabulary.categories:
            return []
        name = self._entry(vocabulary)
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
        outputs = self._run(inputs)
        ids = [category.id for category in vocabulary.categories]

        def category_of(label: int) -> int:
            refuse_unknown_label(label, len(ids), f"detectron2, video {video.id}")
            return ids[label]

        return tracks_of_outputs(video.id, len(video.frames), outputs, category_of)

    def images(self, video: Video, vocabulary: Vocabulary) -> Iterator[ImageObjects]:
        """The objects of each frame of ``video``, from a model of images, which is given one frame at a time.

        Its input is that of detectron2's data loaders for an image, as in `predict`.
        """
        name = self._entry(vocabulary)
        for index, image in enumerate(video.read()):
            where = f"detectron2, video {video.id}, frame {index}"
            inputs = {
                "image": self._prepared(image),
                "height": video.height,
                "width": video.width,
                "image_id": index,
                "file_name": f"{video.name}/{index:05d}",
                "dataset_name": name,
                "meta": {"dataset_name": name},
            }
            found = objects_of_image(self._run(inputs), (video.height, video.width), where)
            for label in found.labels:
                refuse_unknown_label(label, len(vocabulary.categories), where)
            yield found

    def _entry(self, vocabulary: Vocabulary) -> str:
        """Give the model the vocabulary; returns the name of its entry in detectron2's catalog."""
        if vocabulary.digest != self._digest:
            self._take_words(vocabulary)
        return str(entry_of(vocabulary).name)

    @torch.inference_mode()
    def _run(self, inputs: dict[str, Any]) -> Any:
        """The model's outputs for one video or image, after the function ``outputs``."""
        mixed = None if self.precision == "fp32" else dtype_of(self.precision)
        device = torch.device(self.builder.device).type
        with torch.autocast(device, dtype=mixed) if mixed else nullcontext():
            outputs = self.network([inputs])
        return outputs if self._outputs is None else self._outputs(outputs, [inputs])

    def _take_words(self, vocabulary: Vocabulary) -> None:
        """Give the model other words if it supports that, else build it again."""
        if self.builder.can_tell():
            self.builder.tell(self.network, entry_of(vocabulary))
        else:
            self.network, self.loaded_weights = self.builder.load(vocabulary, self.checkpoint)
        self._vocabulary, self._digest = vocabulary, vocabulary.digest

    def facts(self) -> dict[str, str]:
        """Facts on the model, see `harness.types.Model`."""
        count = len(self._vocabulary.categories)
        read = (
            "read by the model" if were_read(entry_of(self._vocabulary)) else "NOT read by the model, which has its own"
        )
        if self.builder.config.words:
            read = f"given to {self.builder.config.words}"
        return {"words": f"{count}, {read}"}

    def _prepared(self, image: Image) -> torch.Tensor:
        """A frame resized and in the colour order of the config, ``(3, height, width)`` uint8."""
        ordered = image[:, :, ::-1] if self.cfg.INPUT.FORMAT == "BGR" else image
        ordered = np.ascontiguousarray(ordered)
        resized = self._resize.get_transform(ordered).apply_image(ordered)
        return torch.as_tensor(np.ascontiguousarray(resized.transpose(2, 0, 1)))


def refuse_unknown_label(label: int, words: int, where: str) -> None:
    """Raise `UserError` for a label that is not a position in a vocabulary of ``words`` names."""
    if not 0 <= label < words:
        hint = "run it on the dataset that it was trained for, or name its counts of classes in class_counts"
        raise UserError(where, f"label {label} for a vocabulary of {words} names", hint)


def load_detectron2_model(config: Detectron2Config, context: LoadContext) -> Detectron2Model:
    """Build the model that ``config`` describes with the weights of ``context.checkpoint``.

    Raises `UserError` where there are no weights, a module of ``setup`` does not load, a key of the config is unknown,
    or the weights are of another model.
    """
    if context.checkpoint is None:
        raise UserError("detectron2", "has no weights", "give its checkpoint, a file")
    builder = NetworkBuilder(config, context.device)
    return Detectron2Model(builder, context.checkpoint, context.dataset.vocabulary, context.precision)


def identity(config: Detectron2Config) -> dict[str, Any]:
    """What the tracks depend on besides settings and checkpoint: the merged config, and all code involved."""
    import detectron2

    from harness.baselines.detectron2_adapter.network import config_digest, merged_config
    from harness.run_folder.identity import code_state, module_digest

    digest = config_digest(merged_config(config))
    named = [*config.setup, *filter(None, (config.words, config.outputs))]
    modules = dict.fromkeys(name.partition(":")[0] for name in named)
    return {
        "merged_config_sha256": digest,
        "project": code_state(config.project) if config.project is not None else None,
        "modules": {module: module_digest(module) for module in modules},
        "detectron2": {"version": detectron2.__version__, "sources": module_digest("detectron2")},
    }
