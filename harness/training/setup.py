"""Builds a training from names and settings: images, augmentation, model."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from pydantic import BaseModel, create_model
from torch import nn

from harness.config import read_config
from harness.errors import UserError
from harness.run_folder.provenance import file_digest
from harness.training.augment import LargeScaleJitter, ShortestEdge
from harness.training.config import TrainingConfig
from harness.training.loader import Share, Stream, batches
from harness.training.loop import Batches, Training
from harness.training.processes import TrainingProcesses
from harness.training.sampling import Order, repeat_factors
from harness.training.types import Augmentation, TrainablePlugin, TrainingSet
from harness.training.video_sets import VideoFrames
from harness.training.vocabulary import FrequentCategories

TRAINING_FORMAT = 1


@dataclass(frozen=True)
class Plan:
    """A planned training: the plugin with its settings, the training set, and the schedule."""

    plugin: TrainablePlugin
    model: BaseModel
    config: TrainingConfig
    training_set: TrainingSet
    folder: Path
    checkpoint: Path | None = None
    precision: str = "fp32"
    seed: int = 0
    workers: int = 2

    @cached_property
    def content(self) -> dict[str, Any]:
        """Everything that the trained weights depend on."""
        left_out = {"log_every", "checkpoint_every", "validate_every"}
        if self.config.vocabulary_size is None:  # left out, so that trainings of earlier versions can resume
            left_out.add("vocabulary_size")
        return {
            "format": TRAINING_FORMAT,
            "model": self.plugin.name,
            "settings": self.model.model_dump(mode="json"),
            "training": self.config.model_dump(mode="json", exclude=left_out),
            "checkpoint": file_digest(self.checkpoint) if self.checkpoint is not None else None,
            "dataset": self.training_set.name,
            "digest": self.vocabulary.digest,
            "precision": self.precision,
            "seed": self.seed,
        }

    @cached_property
    def vocabulary(self) -> TrainingSet:
        """The set to train on, with ``vocabulary_size`` categories if that is set."""
        size = self.config.vocabulary_size
        return self.training_set if size is None else FrequentCategories(self.training_set, size)

    def training(self, processes: TrainingProcesses) -> Training:
        """Build the model and its data stream, for this process."""
        images, parts = self.config.batch_size, processes.count * self.config.accumulate
        if images % parts:
            what = f"is {images}, not a multiple of {processes.count} processes times {self.config.accumulate} parts"
            raise UserError("batch_size", what, "change batch_size or accumulate")
        torch.manual_seed(self.seed)  # new weights are random
        trainee = self.plugin.trainee(self.model, self.vocabulary, processes.device, self.checkpoint)
        assert isinstance(trainee, nn.Module)
        return Training(
            trainee, self._batches(processes), self.config, self.folder, self.content, self.precision, self.seed
        )

    def _batches(self, processes: TrainingProcesses) -> Batches:
        videos = isinstance(self.training_set, VideoFrames)
        order = Order(repeat_factors(self.vocabulary, self.config.repeat_threshold), self.seed)
        stream = Stream(self.vocabulary, augmentation(self.config, videos), order, self.seed)
        share = Share(self.config.batch_size, processes.rank, processes.count, self.config.accumulate)
        return lambda step: batches(stream, share, step, self.workers)


def read_settings(
    plugin: TrainablePlugin, dataset: str, file: Path | None, settings: Iterable[str]
) -> tuple[BaseModel, TrainingConfig]:
    """Return the settings of model and schedule: the plugin's for ``dataset``, then a YAML file, then ``--set``.

    Both are in one mapping, because their keys are distinct.
    """
    both = create_model("Settings", __base__=(plugin.TrainingConfig, TrainingConfig))
    read = read_config(both, file, settings, plugin.name, defaults=plugin.training_defaults(dataset))
    values = read.model_dump()
    model, schedule = (
        kind.model_validate({name: values[name] for name in kind.model_fields})
        for kind in (plugin.TrainingConfig, TrainingConfig)
    )
    assert isinstance(schedule, TrainingConfig)
    return model, schedule


def augmentation(config: TrainingConfig, of_videos: bool) -> Augmentation:
    """Return the augmentation of ``config``, or the default for the kind of set."""
    chosen = config.augmentation or ("shortest_edge" if of_videos else "jitter")
    if chosen == "jitter":
        return LargeScaleJitter(config.image_size, config.min_scale, config.max_scale)
    return ShortestEdge(config.short_edge, config.long_edge)
