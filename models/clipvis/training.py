"""CLIP-VIS in training: CLIP stays frozen, the mask generator learns class-agnostic masks (CLIP-VIS, section 3.2)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal

import torch
from pydantic import Field
from safetensors.torch import save
from torch import Tensor, nn
from torch.nn import functional

from harness.durable import write_durably
from harness.models.clipvis.checkpoint import CLIP, load_network, pretrained_clip
from harness.models.clipvis.config import ClipVisConfig
from harness.models.clipvis.network import Architecture, ClipVisNetwork
from harness.models.clipvis.preprocess import SIZE_DIVISOR, normalise
from harness.models.mask2former.mask_criterion import CriterionConfig, MaskCriterion
from harness.training.types import TrainingSample


class ClipVisTrainingConfig(CriterionConfig):
    """What a training of CLIP-VIS starts from, and its losses; the sizes are those of the LVIS-trained models."""

    clip_model: str = "RN50"
    """open_clip's name of the frozen CLIP."""
    clip_pretrained: str | None = None
    """open_clip tag or local file of its weights; default: those of the released models."""
    decoder_layers: int = Field(default=6, ge=1)
    """Layers of the transformer decoder (DEC_LAYERS less one): 6 for LVIS, 9 for COCO and YouTube-VIS."""
    queries: int = Field(default=100, ge=1)
    dim: int = Field(default=256, ge=32, multiple_of=32)
    """Channels of the pixel decoder, the transformer decoder and the masks."""
    heads: int = Field(default=8, ge=1)
    feedforward: int = Field(default=2048, ge=1)
    encoder_layers: int = Field(default=6, ge=1)
    encoder_feedforward: int = Field(default=1024, ge=1)
    weights: Literal["fp32", "fp16"] = "fp32"
    """Number format of the weights that are written for use."""


class ClipVisTrainee(nn.Module):
    """The network and its losses."""

    def __init__(self, network: ClipVisNetwork, config: ClipVisTrainingConfig) -> None:
        super().__init__()
        self.network, self.config = network, config
        self.criterion = MaskCriterion(config)

    def forward(self, samples: Sequence[TrainingSample]) -> dict[str, Tensor]:
        """Losses of a batch, each by its name, and ``total``."""
        device = self.network.criterion.empty_object_weight.device
        images, masks = batch_of(samples, device)
        output, _ = self.network(images, auxiliary=True)
        losses = self.criterion(output, masks, self.network.criterion.empty_object_weight)
        return {**losses, "total": self.criterion.total(losses)}

    def rates(self) -> Mapping[str, float]:
        """CLIP is frozen; all the rest learns at the same rate."""
        return {}

    def export(self, path: Path, facts: Mapping[str, str]) -> None:
        """Write the weights under the names of the released checkpoints, CLIP's among them."""
        half = self.config.weights == "fp16"
        state = {
            name: (t.half() if half and t.is_floating_point() else t).detach().cpu().contiguous()
            for name, t in self.network.state_dict().items()
        }
        write_durably(path, save(state, dict(facts)))


def build_trainee(config: ClipVisTrainingConfig, device: str, checkpoint: Path | None) -> ClipVisTrainee:
    """The network to train: that of ``checkpoint`` if there is one, else a new one on CLIP's weights."""
    return ClipVisTrainee((load_network(checkpoint) if checkpoint else new_network(config)).to(device), config)


def new_network(config: ClipVisTrainingConfig) -> ClipVisNetwork:
    """An untrained mask generator on a trained CLIP; raises `UserError` where CLIP's weights cannot be had."""
    architecture = Architecture(
        clip_model=config.clip_model,
        decoder_layers=config.decoder_layers,
        queries=config.queries,
        dim=config.dim,
        heads=config.heads,
        feedforward=config.feedforward,
        encoder_layers=config.encoder_layers,
        encoder_feedforward=config.encoder_feedforward,
    )
    clip = ClipVisConfig(clip_model=config.clip_model, clip_pretrained=config.clip_pretrained)
    weights = pretrained_clip("a new CLIP-VIS", {}, clip)
    network = ClipVisNetwork(architecture)
    network.backbone.clip_model.load_state_dict({name.removeprefix(CLIP): t for name, t in weights.items()})
    return network


def batch_of(samples: Sequence[TrainingSample], device: torch.device) -> tuple[Tensor, list[Tensor]]:
    """Normalise images and pad them, and their masks, with zeros to one size, a multiple of 32.

    Returns images ``(B, 3, H, W)`` and for each image its masks ``(objects, H, W)``, boolean.
    """
    height, width = (
        -(-max(sample.image.shape[side] for sample in samples) // SIZE_DIVISOR) * SIZE_DIVISOR for side in (0, 1)
    )
    images = [
        normalise(torch.from_numpy(sample.image).to(device)[None], (height, width))[0] for sample in samples
    ]
    masks = [
        functional.pad(
            torch.from_numpy(sample.masks).to(device), (0, width - sample.masks.shape[2], 0, height - sample.masks.shape[1])
        )
        for sample in samples
    ]
    return torch.stack(images), masks
