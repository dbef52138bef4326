"""Transformer decoder with masked attention (Mask2Former, section 3.2.1): queries attend only inside their mask.

`QueryDecoder` refines the queries; the predictions besides masks differ by model.
`MaskedTransformerDecoder` is that of CLIP-VIS (section 3.2): an object score and a mask-IoU score, no class. Parameter
names are those of the released checkpoints under ``sem_seg_head.predictor``.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Generic, NamedTuple, Protocol, TypeVar

import torch
from torch import Tensor, nn
from torch.nn import functional

from harness.models.mask2former.pixel_decoder import PixelFeatures
from harness.models.mask2former.position_encoding import sine_position_encoding

LEVELS = 3


class HasMasks(Protocol):
    """A prediction that has masks."""

    @property
    def mask_logits(self) -> Tensor:
        """``(B, Q, height / 4, width / 4)``."""
        ...


Predicted = TypeVar("Predicted", bound=HasMasks)


class Prediction(NamedTuple):
    """The outputs of the heads after one layer; B frames, Q queries."""

    object_logits: Tensor
    """``(B, Q, 2)``: object, no object."""
    ious: Tensor
    """``(B, Q, 1)``: predicted mask IoU in [0, 1]."""
    mask_logits: Tensor
    """``(B, Q, height / 4, width / 4)``."""


class DecoderOutput(NamedTuple):
    """The last prediction, the embeddings for matching, and the earlier predictions for training."""

    object_logits: Tensor
    """``(B, Q, 2)``: object, no object."""
    ious: Tensor
    """``(B, Q, 1)``: predicted mask IoU in [0, 1]."""
    mask_logits: Tensor
    """``(B, Q, height / 4, width / 4)``."""
    embeddings: Tensor
    """``(B, Q, dim)``: normalised query features of the last layer."""
    auxiliary: tuple[Prediction, ...]
    """Predictions before the last layer, first the one from the learned queries; empty unless asked for."""


class MLP(nn.Module):
    """Linear layers with ReLU between them, as ``layers.*``."""

    def __init__(self, dim: int, hidden: int, out: int, layers: int = 3) -> None:
        super().__init__()
        widths = [dim] + [hidden] * (layers - 1) + [out]
        self.layers = nn.ModuleList(nn.Linear(a, b) for a, b in pairwise(widths))

    def forward(self, x: Tensor) -> Tensor:
        """``(..., dim)`` to ``(..., out)``."""
        for layer in self.layers[:-1]:
            x = functional.relu(layer(x))
        y: Tensor = self.layers[-1](x)
        return y


class Attention(nn.Module):
    """Multi-head attention with one packed input projection, as ``in_proj_*`` and ``out_proj.*``.

    The same parameters as ``nn.MultiheadAttention``; all heads use one mask, without copies.
    """

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.in_proj_weight = nn.Parameter(torch.empty(3 * dim, dim))
        self.in_proj_bias = nn.Parameter(torch.zeros(3 * dim))
        self.out_proj = nn.Linear(dim, dim)

    def forward(self, query: Tensor, key: Tensor, value: Tensor, allowed: Tensor | None = None) -> Tensor:
        """Attend from ``(B, Q, dim)`` to ``(B, S, dim)``; ``allowed`` ``(B, Q, S)`` is true for allowed positions."""
        weights, biases = self.in_proj_weight.chunk(3), self.in_proj_bias.chunk(3)
        q, k, v = (
            functional.linear(x, weight, bias).view(*x.shape[:2], self.heads, -1).transpose(1, 2)
            for x, weight, bias in zip((query, key, value), weights, biases, strict=True)
        )
        mask = allowed[:, None] if allowed is not None else None
        attended = functional.scaled_dot_product_attention(q, k, v, attn_mask=mask)
        y: Tensor = self.out_proj(attended.transpose(1, 2).flatten(2))
        return y


class SelfAttentionLayer(nn.Module):
    """Self-attention of the queries, followed by residual and norm."""

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.self_attn = Attention(dim, heads)
        self.norm = nn.LayerNorm(dim)

    def forward(self, x: Tensor, position: Tensor) -> Tensor:
        """``(B, Q, dim)`` to ``(B, Q, dim)``."""
        at = x + position
        y: Tensor = self.norm(x + self.self_attn(at, at, x))
        return y


class CrossAttentionLayer(nn.Module):
    """Masked cross-attention of the queries to the image, followed by residual and norm."""

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.multihead_attn = Attention(dim, heads)
        self.norm = nn.LayerNorm(dim)

    def forward(self, x: Tensor, position: Tensor, memory: Tensor, memory_position: Tensor, allowed: Tensor) -> Tensor:
        """``(B, Q, dim)`` to ``(B, Q, dim)``; ``memory`` is ``(B, S, dim)``, ``allowed`` ``(B, Q, S)``."""
        y: Tensor = self.norm(x + self.multihead_attn(x + position, memory + memory_position, memory, allowed))
        return y


class FeedForwardLayer(nn.Module):
    """Two linear layers with ReLU, followed by residual and norm."""

    def __init__(self, dim: int, feedforward: int) -> None:
        super().__init__()
        self.linear1 = nn.Linear(dim, feedforward)
        self.linear2 = nn.Linear(feedforward, dim)
        self.norm = nn.LayerNorm(dim)

    def forward(self, x: Tensor) -> Tensor:
        """``(B, Q, dim)`` to ``(B, Q, dim)``."""
        y: Tensor = self.norm(x + self.linear2(functional.relu(self.linear1(x))))
        return y


class QueryDecoder(nn.Module, Generic[Predicted]):
    """Learned queries refined layer by layer over the levels in turn, coarse, middle, fine.

    ``layers`` is one less than upstream's DEC_LAYERS, which counts predictions: 6 (image training) or 9 (video). A
    subclass adds its heads and applies them in `predict`.
    """

    def __init__(
        self, layers: int, queries: int = 100, dim: int = 256, heads: int = 8, feedforward: int = 2048
    ) -> None:
        super().__init__()
        self.query_feat = nn.Embedding(queries, dim)
        self.query_embed = nn.Embedding(queries, dim)
        self.level_embed = nn.Embedding(LEVELS, dim)
        self.transformer_self_attention_layers = nn.ModuleList(SelfAttentionLayer(dim, heads) for _ in range(layers))
        self.transformer_cross_attention_layers = nn.ModuleList(CrossAttentionLayer(dim, heads) for _ in range(layers))
        self.transformer_ffn_layers = nn.ModuleList(FeedForwardLayer(dim, feedforward) for _ in range(layers))
        self.decoder_norm = nn.LayerNorm(dim)
        self.mask_embed = MLP(dim, dim, dim)
        self._initialise()

    def predict(self, x: Tensor, mask_features: Tensor) -> Predicted:
        """Apply the heads to query features ``(B, Q, dim)``; all of them read ``decoder_norm`` of these."""
        raise NotImplementedError

    def refine(
        self, features: PixelFeatures, paddings: list[Tensor] | None = None, auxiliary: bool = False
    ) -> tuple[Tensor, list[Predicted]]:
        """Return query features ``(B, Q, dim)`` after the last layer, and the earlier predictions if ``auxiliary``.

        ``paddings``: boolean ``(h, w)`` maps at strides 32, 16, 8, true where no query may attend (none by default, as
        in the released models). With ``auxiliary`` the predictions of the layers before the last are returned, with
        full masks; without it attention masks come from mask features resized once per level, which is the same
        function (resizing is linear) for a fraction of the work.
        """
        mask_features = features.mask_features
        sizes = [level.shape[-2:] for level in features.multi_scale]
        memory, memory_position = self._memory(features.multi_scale)
        outside = [p.flatten() for p in paddings] if paddings is not None else None
        resized = [] if auxiliary else [_resize(mask_features, size) for size in sizes]

        x = self.query_feat.weight.expand(mask_features.shape[0], -1, -1)
        position = self.query_embed.weight
        earlier: list[Predicted] = []
        for i in range(len(self.transformer_cross_attention_layers)):
            level = i % LEVELS
            if auxiliary:
                earlier.append(self.predict(x, mask_features))
                logits = _resize(earlier[-1].mask_logits.detach(), sizes[level])
            else:
                logits = self._mask_logits(self.decoder_norm(x), resized[level])
            allowed = attention_mask(logits.detach(), outside[level] if outside is not None else None)
            x = self.transformer_cross_attention_layers[i](x, position, memory[level], memory_position[level], allowed)
            x = self.transformer_self_attention_layers[i](x, position)
            x = self.transformer_ffn_layers[i](x)
        return x, earlier

    def _mask_logits(self, z: Tensor, mask_features: Tensor) -> Tensor:
        """Masks ``(B, Q, h, w)`` of normalised query features at the resolution of ``mask_features``."""
        return torch.einsum("bqc,bchw->bqhw", self.mask_embed(z), mask_features)

    def _memory(self, levels: tuple[Tensor, Tensor, Tensor]) -> tuple[list[Tensor], list[Tensor]]:
        """Flatten the levels to ``(B, h * w, dim)`` with their embedding, and their position ``(1, h * w, dim)``."""
        memory = [
            level.flatten(2).transpose(1, 2) + embed
            for level, embed in zip(levels, self.level_embed.weight, strict=True)
        ]
        position = [
            sine_position_encoding(level.shape[-2], level.shape[-1], level.shape[1] // 2, level.device)
            .flatten(2)
            .transpose(1, 2)
            for level in levels
        ]
        return memory, position

    def _initialise(self) -> None:
        """Xavier for the matrices of attention and feed-forward layers, PyTorch's defaults for the rest."""
        for layers in (
            self.transformer_self_attention_layers,
            self.transformer_cross_attention_layers,
            self.transformer_ffn_layers,
        ):
            for parameter in layers.parameters():
                if parameter.dim() > 1:
                    nn.init.xavier_uniform_(parameter)


class MaskedTransformerDecoder(QueryDecoder[Prediction]):
    """The decoder of CLIP-VIS: an object score, a mask-IoU score and a mask per query, no class."""

    def __init__(
        self, layers: int, queries: int = 100, dim: int = 256, heads: int = 8, feedforward: int = 2048
    ) -> None:
        super().__init__(layers, queries, dim, heads, feedforward)
        self.object_embed = MLP(dim, dim, 2)
        self.iou_head = MLP(dim, dim, 1)

    def forward(
        self, features: PixelFeatures, paddings: list[Tensor] | None = None, auxiliary: bool = False
    ) -> DecoderOutput:
        """Decode the queries of each frame; frames are independent of each other. Arguments as of `refine`."""
        x, earlier = self.refine(features, paddings, auxiliary)
        return DecoderOutput(*self.predict(x, features.mask_features), self.decoder_norm(x), tuple(earlier))

    def predict(self, x: Tensor, mask_features: Tensor) -> Prediction:
        """Apply the heads to query features ``(B, Q, dim)`` (docs/clipvis.md, *Mask generator*)."""
        z = self.decoder_norm(x)
        return Prediction(self.object_embed(z), self.iou_head(z).sigmoid(), self._mask_logits(z, mask_features))


def attention_mask(mask_logits: Tensor, outside: Tensor | None = None) -> Tensor:
    """Allowed positions of each query, ``(B, Q, h * w)`` boolean, from its mask logits ``(B, Q, h, w)`` at that level.

    Positions with a probability below 0.5 are blocked; if all are, the query may attend everywhere. Positions where
    ``outside`` ``(h * w,)`` is true are always blocked.
    """
    allowed = mask_logits.flatten(2).sigmoid() >= 0.5
    if outside is not None:
        allowed = allowed & ~outside
    nowhere = ~allowed.any(-1, keepdim=True)
    return allowed | (nowhere if outside is None else nowhere & ~outside)


def _resize(maps: Tensor, size: torch.Size) -> Tensor:
    return functional.interpolate(maps, size=size, mode="bilinear", align_corners=False)
