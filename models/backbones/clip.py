"""The frozen CLIP: image features for the decoder, pooled features for classes, text features for names.

Built by open_clip without weights; they come from a CLIP-VIS checkpoint (``backbone.clip_model.*``) or through
open_clip (`pretrained_clip`). ResNets pool with CLIP's attention pool, ConvNeXts with a mean and a linear head
(CLIP-VIS, section 3.4; docs/clipvis.md, *Backbone*).
"""

from __future__ import annotations

import logging
import sys
from importlib import import_module
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from harness.models.mask2former.pixel_decoder import FeatureMaps
from harness.models.miniatures import clip as miniature

log = logging.getLogger(__name__)

PRETRAINED = {"RN50": "openai", "convnext_base_w_320": "laion_aesthetic_s13b_b82k"}
"""The backbones of the released models and the open_clip tags of their weights."""


def open_clip() -> Any:
    """Import open_clip, even if torchvision's compiled operators do not match the installed torch.

    open_clip imports torchvision, whose import ends with "operator torchvision::nms does not exist" when its binary
    is for another build of torch (CPU against CUDA). Nothing here uses these operators, so their names are declared
    and the import is tried again. The miniature that comes with this package is one of its models.
    """
    try:
        import_module("torchvision")
    except RuntimeError as error:
        if "operator torchvision::" not in str(error):
            raise
        for name in ("nms", "qnms"):
            _UNUSED_OPERATORS.define(f"{name}(Tensor boxes, Tensor scores, float iou_threshold) -> Tensor")  # type: ignore[no-untyped-call]
        for module in [name for name in sys.modules if name.split(".")[0] == "torchvision"]:
            del sys.modules[module]
    library = import_module("open_clip")
    miniature.declare(library)
    return library


def create_clip(name: str, pretrained: str | None, **options: Any) -> Any:
    """Create a CLIP model of open_clip without its side effects on logging.

    open_clip logs on the root logger, which adds a handler to it. Its warning of random weights is dropped: without
    ``pretrained`` they are replaced next. Raises open_clip's exceptions.
    """
    library, before = open_clip(), logging.root.manager.disable
    if pretrained and not Path(pretrained).is_file():
        log.info("CLIP weights %s (%s): from open_clip's cache, else fetched", name, pretrained)
    quiet = logging.NullHandler()
    logging.root.addHandler(quiet)
    logging.disable(logging.INFO if pretrained else logging.WARNING)
    try:
        return library.create_model(name, pretrained=pretrained, **options)
    finally:
        logging.disable(before)
        logging.root.removeHandler(quiet)


_UNUSED_OPERATORS = torch.library.Library("torchvision", "FRAGMENT")  # type: ignore[no-untyped-call]


class ClipBackbone(nn.Module):
    """A frozen CLIP model of open_clip, always in evaluation mode and without gradients, as ``clip_model``.

    ``name`` is an open_clip model with a ResNet or ConvNeXt image tower. ``quick_gelu`` forces OpenAI's activation in
    the text tower (default: for ResNets).
    """

    def __init__(self, name: str, quick_gelu: bool | None = None) -> None:
        super().__init__()
        library = open_clip()
        config = library.get_model_config(name)
        self.name = name
        self.is_resnet = "timm_model_name" not in config["vision_cfg"]
        forced = self.is_resnet if quick_gelu is None else quick_gelu
        device = torch.get_default_device()
        self.clip_model = create_clip(name, None, force_quick_gelu=forced, device=device)
        self.requires_grad_(False)
        self.train(False)

    def train(self, mode: bool = True) -> ClipBackbone:
        """Stay in evaluation mode: CLIP is frozen, batch statistics included."""
        return super().train(False)

    def restore_mask(self) -> None:
        """Compute the causal mask of the text tower, which checkpoints do not hold, on the device of the weights."""
        length, weight = self.clip_model.positional_embedding.shape[0], self.clip_model.positional_embedding
        mask = torch.full((length, length), float("-inf"), dtype=weight.dtype, device=weight.device)
        self.clip_model.attn_mask = mask.triu_(1)

    @property
    def channels(self) -> tuple[int, int, int, int]:
        """Channels of res2 to res5."""
        visual = self.clip_model.visual
        if self.is_resnet:
            stages = (visual.layer1, visual.layer2, visual.layer3, visual.layer4)
            return tuple(stage[-1].conv3.out_channels for stage in stages)
        return tuple(stage.blocks[-1].conv_dw.out_channels for stage in visual.trunk.stages)

    @property
    def embed_dim(self) -> int:
        """Dimension of the joint embedding space of images and texts."""
        return int(self.clip_model.text_projection.shape[1])

    @property
    def logit_scale(self) -> Tensor:
        """Factor of cosine similarities, at most 100; a scalar."""
        scale: Tensor = self.clip_model.logit_scale.exp().clamp(max=100)
        return scale

    @torch.no_grad()
    def forward(self, images: Tensor) -> FeatureMaps:
        """Normalised images ``(batch, 3, height, width)``, sides multiples of 32; res5 is the dense CLIP feature."""
        visual = self.clip_model.visual
        maps = []
        if self.is_resnet:
            x = visual.stem(images)
            stages = (visual.layer1, visual.layer2, visual.layer3, visual.layer4)
        else:
            x = visual.trunk.stem(images)
            stages = tuple(visual.trunk.stages)
        for stage in stages:
            x = stage(x)
            maps.append(x)
        return FeatureMaps(*maps)

    def project(self, pooled: Tensor) -> Tensor:
        """Apply ConvNeXt's head to pooled features ``(..., channels)``: its norm, a linear map to ``embed_dim``."""
        visual = self.clip_model.visual
        normed = visual.trunk.head.norm(pooled.reshape(-1, pooled.shape[-1], 1, 1)).flatten(1)
        projected: Tensor = visual.head(normed)
        return projected.view(*pooled.shape[:-1], -1)

    def attention_pool(
        self, dense: Tensor, masks: Tensor, inside: Tensor | None = None, class_token: bool = False
    ) -> Tensor:
        """Pool ResNet features under each mask with CLIP's attention pool; returns ``(B, Q, embed_dim)``.

        ``dense`` is ``(B, channels, h, w)``, ``masks`` boolean ``(B, Q, h, w)``. The query is the mean of the frame
        (where ``inside`` ``(h, w)`` is true, if given), the same for every mask; the keys are the positions of
        the mask, and the query's token itself if ``class_token``. Rows of empty masks are undefined, may be NaN.
        """
        pool = self.clip_model.visual.attnpool
        batch, _, height, width = dense.shape
        tokens = dense.flatten(2).transpose(1, 2)  # (B, S, channels)
        weight = torch.ones_like(dense[:1, :1]) if inside is None else inside.to(dense.dtype)
        mean = (dense * weight).sum((2, 3)) / (weight.sum() if inside is not None else height * width)
        query = mean[:, None] + pool.positional_embedding[0].to(dense.dtype)
        keys = tokens + self._grid_positions(height, width).to(dense.dtype)
        allowed = masks.flatten(2)[:, None]  # (B, 1, Q, S)
        if class_token:
            keys = torch.cat((query, keys), dim=1)
            allowed = functional.pad(allowed, (1, 0), value=True)
        q, k, v = (
            linear(x).view(batch, x.shape[1], pool.num_heads, -1).transpose(1, 2)
            for linear, x in ((pool.q_proj, query), (pool.k_proj, keys), (pool.v_proj, keys))
        )
        # all masks have the same query, so its similarities are computed once and masked per query
        similarity = (q * q.shape[-1] ** -0.5) @ k.transpose(-1, -2)  # (B, heads, 1, S)
        weights = similarity.masked_fill(~allowed, float("-inf")).softmax(-1)
        pooled: Tensor = pool.c_proj((weights @ v).transpose(1, 2).flatten(2))
        return pooled

    def _grid_positions(self, height: int, width: int) -> Tensor:
        """The attention pool's positions resized to a map, ``(height * width, channels)``."""
        table = self.clip_model.visual.attnpool.positional_embedding[1:]
        side = round(table.shape[0] ** 0.5)
        grid = table.T.reshape(1, -1, side, side)
        resized = functional.interpolate(grid, size=(height, width), mode="bilinear", align_corners=False)
        return resized.flatten(2)[0].T

    @torch.no_grad()
    def encode_text(self, tokens: Tensor) -> Tensor:
        """Encode tokens ``(texts, 77)``; returns ``(texts, embed_dim)``, not normalised.

        Attention is causal and a text ends with its largest token, so positions after the longest text of the batch
        are not computed.
        """
        clip = self.clip_model
        end = tokens.argmax(-1)
        length = int(end.max()) + 1
        x = clip.token_embedding(tokens[:, :length]) + clip.positional_embedding[:length]
        x = clip.ln_final(clip.transformer(x, attn_mask=clip.attn_mask[:length, :length]))
        features: Tensor = x[torch.arange(x.shape[0], device=x.device), end] @ clip.text_projection
        return features
