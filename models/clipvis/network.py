"""The network of CLIP-VIS: a frozen CLIP and the mask generator on its features (CLIP-VIS, figure 2)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from harness.models.backbones.clip import ClipBackbone
from harness.models.clipvis.mask_generator import MaskGenerator
from harness.models.mask2former.transformer_decoder import DecoderOutput
from harness.types import LoadedWeights


@dataclass(frozen=True)
class ClipVisArchitecture:
    """The sizes of a checkpoint. Defaults are those of the released LVIS-trained models."""

    clip_model: str = "RN50"
    """Name in open_clip."""
    decoder_layers: int = 6
    """Layers of the transformer decoder: 6 after image training, 9 after YouTube-VIS (DEC_LAYERS less one)."""
    queries: int = 100
    dim: int = 256
    heads: int = 8
    feedforward: int = 2048
    encoder_layers: int = 6
    encoder_feedforward: int = 1024


class LossWeights(nn.Module):
    """The criterion's only buffer, which released checkpoints contain: class weights of object and no object."""

    empty_object_weight: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("empty_object_weight", torch.tensor([1.0, 0.4]))


class ClipVisNetwork(nn.Module):
    """Backbone and mask generator, with the parameter names of the released checkpoints.

    ``short_edge`` is the default shorter edge of resized frames in pixels; ``loaded_weights`` says how its weights were
    loaded, if they were.
    """

    short_edge = 480
    loaded_weights: LoadedWeights | None = None

    def __init__(self, architecture: ClipVisArchitecture, quick_gelu: bool | None = None) -> None:
        super().__init__()
        self.backbone = ClipBackbone(architecture.clip_model, quick_gelu)
        self.sem_seg_head = MaskGenerator(
            self.backbone.channels,
            decoder_layers=architecture.decoder_layers,
            queries=architecture.queries,
            dim=architecture.dim,
            heads=architecture.heads,
            feedforward=architecture.feedforward,
            encoder_layers=architecture.encoder_layers,
            encoder_feedforward=architecture.encoder_feedforward,
        )
        self.criterion = LossWeights()

    def forward(
        self, images: Tensor, paddings: list[Tensor] | None = None, auxiliary: bool = False
    ) -> tuple[DecoderOutput, Tensor]:
        """Run normalised images ``(B, 3, height, width)``, sides multiples of 32, each on its own.

        Returns the decoder's output and the dense CLIP feature ``(B, channels, height / 32, width / 32)``.
        """
        features = self.backbone(images)
        output: DecoderOutput = self.sem_seg_head(features, paddings, auxiliary)
        return output, features.res5
