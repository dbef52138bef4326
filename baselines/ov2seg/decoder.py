"""OV2Seg's heads: object score, mask, and an embedding that is compared with text (OV2Seg, section 3.2).

The queries are refined as in Mask2Former; no parameter depends on classes, so any vocabulary can be used.
Parameter names are those of the released checkpoint under ``sem_seg_head``.
"""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor, nn

from harness.models.mask2former.pixel_decoder import FeatureMaps, PixelDecoder, PixelFeatures
from harness.models.mask2former.transformer_decoder import MLP, QueryDecoder


class OpenVocabularyPrediction(NamedTuple):
    """The outputs of the heads after one layer; B frames, Q queries."""

    object_logits: Tensor
    """``(B, Q, 2)``: object, no object."""
    class_embeddings: Tensor
    """``(B, Q, embed_dim)``: to be compared with text embeddings by cosine; not normalised."""
    mask_logits: Tensor
    """``(B, Q, height / 4, width / 4)``."""


class OpenVocabularyOutput(NamedTuple):
    """The last prediction, the embeddings for matching, and the earlier predictions for training."""

    object_logits: Tensor
    """``(B, Q, 2)``: object, no object."""
    class_embeddings: Tensor
    """``(B, Q, embed_dim)``."""
    mask_logits: Tensor
    """``(B, Q, height / 4, width / 4)``."""
    embeddings: Tensor
    """``(B, Q, dim)``: normalised query features of the last layer, which all heads read."""
    auxiliary: tuple[OpenVocabularyPrediction, ...]
    """Predictions before the last layer, first the one from the learned queries; empty unless asked for."""


class ClassHead(nn.Module):
    """From query features to the space of text embeddings, as ``linear.0`` and ``linear.2`` (docs/ov2seg.md)."""

    def __init__(self, dim: int, embed_dim: int) -> None:
        super().__init__()
        self.linear = nn.Sequential(nn.Linear(dim, dim), nn.ReLU(), nn.Linear(dim, embed_dim))

    def forward(self, z: Tensor) -> Tensor:
        """Normalised query features ``(..., dim)`` to ``(..., embed_dim)``, not of unit length."""
        projected: Tensor = self.linear(z)
        return projected


class OpenVocabularyDecoder(QueryDecoder[OpenVocabularyPrediction]):
    """Mask2Former's decoder with OV2Seg's heads."""

    def __init__(self, layers: int, queries: int, dim: int, heads: int, feedforward: int, embed_dim: int) -> None:
        super().__init__(layers, queries, dim, heads, feedforward)
        self.class_embed = ClassHead(dim, embed_dim)
        self.object_embed = MLP(dim, dim, 2, layers=2)

    def forward(
        self, features: PixelFeatures, paddings: list[Tensor] | None = None, auxiliary: bool = False
    ) -> OpenVocabularyOutput:
        """Decode the queries of each frame; frames are independent of each other. Arguments as of `refine`."""
        x, earlier = self.refine(features, paddings, auxiliary)
        return OpenVocabularyOutput(*self.predict(x, features.mask_features), self.decoder_norm(x), tuple(earlier))

    def predict(self, x: Tensor, mask_features: Tensor) -> OpenVocabularyPrediction:
        """Apply the heads to query features ``(B, Q, dim)`` (docs/ov2seg.md, *Decoder*)."""
        z = self.decoder_norm(x)
        return OpenVocabularyPrediction(self.object_embed(z), self.class_embed(z), self._mask_logits(z, mask_features))


class OpenVocabularyHead(nn.Module):
    """Pixel decoder and transformer decoder, as ``pixel_decoder`` and ``predictor``."""

    def __init__(self, pixel_decoder: PixelDecoder, predictor: OpenVocabularyDecoder) -> None:
        super().__init__()
        self.pixel_decoder, self.predictor = pixel_decoder, predictor

    def forward(
        self, features: FeatureMaps, paddings: list[Tensor] | None = None, auxiliary: bool = False
    ) -> OpenVocabularyOutput:
        """Decode a batch of frames, each on its own; see `PixelDecoder` and `QueryDecoder.refine`."""
        output: OpenVocabularyOutput = self.predictor(self.pixel_decoder(features, paddings), paddings, auxiliary)
        return output
