"""OV2Seg in training: backbone and heads learn, text embeddings are given (OV2Seg, section 3.4; docs/ov2seg.md)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from safetensors.torch import save
from torch import Tensor, nn

from harness.atomic_write import write_atomically
from harness.baselines.ov2seg.checkpoint import BACKBONE, load_network
from harness.baselines.ov2seg.config import Ov2SegConfig, Ov2SegTrainingConfig
from harness.baselines.ov2seg.criterion import Ov2SegCriterion
from harness.baselines.ov2seg.model import IMAGENET_MEAN, IMAGENET_STD
from harness.baselines.ov2seg.network import Ov2SegArchitecture, Ov2SegNetwork
from harness.baselines.ov2seg.text_classifier import text_classifier
from harness.errors import UserError
from harness.models.backbones.resnet import ResNetSize
from harness.models.shared.checkpoint_files import SHORT_EDGE, check_tensors, read_tensors
from harness.models.shared.training_batch import batch_of
from harness.training.types import TrainingSample, TrainingSet
from harness.types import Vocabulary

TEXT_TOWER = "text_tower"
"""Metadata key of the CLIP model whose text embeddings the weights were trained with."""
BACKBONE_RATE = 0.1


class Ov2SegTrainee(nn.Module):
    """The network and its losses against the text embeddings of the training set's categories."""

    def __init__(self, network: Ov2SegNetwork, config: Ov2SegTrainingConfig, text: Tensor, frequency: Tensor) -> None:
        super().__init__()
        self.network, self.config = network, config
        self.criterion = Ov2SegCriterion(text, frequency, config)

    def forward(self, samples: Sequence[TrainingSample]) -> dict[str, Tensor]:
        """Losses of a batch by name, and ``total``."""
        device = self.criterion.text.device
        images, masks = batch_of(samples, device, IMAGENET_MEAN, IMAGENET_STD)
        categories = [torch.from_numpy(sample.categories).to(device) for sample in samples]
        losses = self.criterion(self.network(images, auxiliary=True), masks, categories)
        return {**losses, "total": self.criterion.total(losses)}

    def rates(self) -> Mapping[str, float]:
        """A smaller learning rate for the backbone, which is pretrained."""
        return {f"network.{BACKBONE}": BACKBONE_RATE}

    def export(self, path: Path, facts: Mapping[str, str]) -> None:
        """Write the weights under the names of the released checkpoint."""
        half = self.config.weights == "fp16"
        state = {
            name: (t.half() if half and t.is_floating_point() else t).detach().cpu().contiguous()
            for name, t in self.network.state_dict().items()
        }
        stated = {SHORT_EDGE: str(self.config.inference_short_edge), TEXT_TOWER: self.config.clip_model}
        write_atomically(path, save(state, {**facts, **stated}))


def build_trainee(
    config: Ov2SegTrainingConfig, training_set: TrainingSet, device: str, checkpoint: Path | None
) -> Ov2SegTrainee:
    """The network to train: that of ``checkpoint`` if there is one, else a new one on the backbone's weights."""
    from harness.models.shared.text_classifier import text_cache

    network = load_network(checkpoint) if checkpoint else new_network(config)
    source = Ov2SegConfig(
        text_classifier=config.text_classifier,
        clip_model=config.clip_model,
        clip_pretrained=config.clip_pretrained,
    )
    vocabulary, place = Vocabulary(training_set.categories), torch.device(device)
    found = text_classifier(source, vocabulary, training_set.name, network.embed_dim, place, text_cache())
    if len(found.classifier.weights) != len(training_set.categories):
        what = "has categories with several names, which the losses cannot distinguish"
        raise UserError(training_set.name, what, "set text_classifier to a file with one row per category")
    return Ov2SegTrainee(network.to(device), config, found.classifier.weights, class_frequencies(training_set))


def class_frequencies(training_set: TrainingSet) -> Tensor:
    """Number of images of the set with each category, ``(C,)``."""
    counts = Counter(c for item in range(len(training_set)) for c in training_set.categories_of(item))
    return torch.tensor([float(counts[i]) for i in range(len(training_set.categories))])


def new_network(config: Ov2SegTrainingConfig) -> Ov2SegNetwork:
    """Untrained heads on a ResNet, with ``backbone_weights`` if they are given."""
    network = Ov2SegNetwork(
        Ov2SegArchitecture(
            backbone=ResNetSize(config.backbone_blocks, config.backbone_width),
            decoder_layers=config.decoder_layers,
            queries=config.queries,
            dim=config.dim,
            heads=config.heads,
            feedforward=config.feedforward,
            encoder_layers=config.encoder_layers,
            encoder_feedforward=config.encoder_feedforward,
            embed_dim=config.embed_dim,
        )
    )
    if config.backbone_weights is not None:
        hint = "name weights of this ResNet, with names as in the released checkpoint (base.conv1.weight, ...)"
        read = {n.removeprefix(BACKBONE): t for n, t in read_tensors(config.backbone_weights, hint).items()}
        state = {n: t for n, t in read.items() if not n.endswith("num_batches_tracked")}
        check_tensors(network.backbone.state_dict(), state, config.backbone_weights, "the backbone", hint)
        network.backbone.load_state_dict(state)
    return network
