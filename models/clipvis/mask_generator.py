"""Class-agnostic mask generation: pixel decoder and masked transformer decoder (CLIP-VIS, section 3.2)."""

from __future__ import annotations

from torch import Tensor, nn

from harness.models.mask2former.pixel_decoder import FeatureMaps, PixelDecoder
from harness.models.mask2former.transformer_decoder import DecoderOutput, MaskedTransformerDecoder


class MaskGenerator(nn.Module):
    """Computes object scores, mask-IoU scores, masks and embeddings of the queries from CLIP's feature maps.

    ``channels`` are the backbone's for res2 to res5. The defaults are the sizes of the released checkpoints;
    ``feedforward`` is the decoder's, ``encoder_feedforward`` the pixel decoder's.
    """

    def __init__(
        self,
        channels: tuple[int, int, int, int],
        decoder_layers: int = 6,
        queries: int = 100,
        dim: int = 256,
        heads: int = 8,
        feedforward: int = 2048,
        encoder_layers: int = 6,
        encoder_feedforward: int = 1024,
    ) -> None:
        super().__init__()
        self.pixel_decoder = PixelDecoder(
            channels, dim=dim, heads=heads, feedforward=encoder_feedforward, layers=encoder_layers
        )
        self.predictor = MaskedTransformerDecoder(decoder_layers, queries, dim, heads, feedforward)

    def forward(
        self, features: FeatureMaps, paddings: list[Tensor] | None = None, auxiliary: bool = False
    ) -> DecoderOutput:
        """Decode a batch of frames, each on its own; see `PixelDecoder` and `MaskedTransformerDecoder`."""
        output: DecoderOutput = self.predictor(self.pixel_decoder(features, paddings), paddings, auxiliary)
        return output
