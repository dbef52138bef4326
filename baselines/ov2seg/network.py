"""The network of OV2Seg: a backbone and the open-vocabulary head on its features (OV2Seg, figure 3)."""

from __future__ import annotations

from dataclasses import dataclass, field

from torch import Tensor, nn

from harness.baselines.ov2seg.decoder import OpenVocabularyDecoder, OpenVocabularyHead, OpenVocabularyOutput
from harness.models.backbones.resnet import ResNetSize
from harness.models.backbones.swin import SwinSize
from harness.models.mask2former.pixel_decoder import PixelDecoder
from harness.types import LoadedWeights


@dataclass(frozen=True)
class Ov2SegArchitecture:
    """The sizes of a checkpoint. Defaults are those of the released model."""

    backbone: ResNetSize | SwinSize = field(default_factory=ResNetSize)
    decoder_layers: int = 6
    queries: int = 100
    """QUIRK: the official YAML says 300, its command lines and the released weights 100."""
    dim: int = 256
    heads: int = 8
    feedforward: int = 2048
    encoder_layers: int = 6
    encoder_feedforward: int = 1024
    embed_dim: int = 512
    """Size of text embeddings."""


class Ov2SegNetwork(nn.Module):
    """Backbone and head, with the parameter names of the released checkpoint.

    The text matrix and the criterion's constants, which are weights of the official model, do not belong to it.
    ``short_edge`` is the default shorter edge of resized frames in pixels; ``loaded_weights`` says how its weights were
    loaded, if they were.
    """

    short_edge = 480
    loaded_weights: LoadedWeights | None = None

    def __init__(self, architecture: Ov2SegArchitecture) -> None:
        super().__init__()
        sizes = architecture
        self.embed_dim = sizes.embed_dim
        self.backbone = sizes.backbone.build()
        pixel_decoder = PixelDecoder(
            sizes.backbone.channels,
            dim=sizes.dim,
            heads=sizes.heads,
            feedforward=sizes.encoder_feedforward,
            layers=sizes.encoder_layers,
        )
        predictor = OpenVocabularyDecoder(
            sizes.decoder_layers, sizes.queries, sizes.dim, sizes.heads, sizes.feedforward, sizes.embed_dim
        )
        self.sem_seg_head = OpenVocabularyHead(pixel_decoder, predictor)

    def forward(
        self, images: Tensor, paddings: list[Tensor] | None = None, auxiliary: bool = False
    ) -> OpenVocabularyOutput:
        """Run normalised images ``(B, 3, height, width)``, sides multiples of 32, each on its own.

        With ``auxiliary`` the predictions before the last layer are returned too, for training.
        """
        output: OpenVocabularyOutput = self.sem_seg_head(self.backbone(images), paddings, auxiliary)
        return output
