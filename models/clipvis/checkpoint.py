"""Checkpoints of CLIP-VIS: read without running code, sizes inferred from shapes, loaded strictly."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from harness.errors import UserError, first_line
from harness.models import miniatures
from harness.models.backbones.clip import PRETRAINED, create_clip, open_clip
from harness.models.clipvis.card import VARIANT_SIZES
from harness.models.clipvis.config import ClipVisConfig
from harness.models.clipvis.network import ClipVisArchitecture, ClipVisNetwork
from harness.models.miniatures import clip as miniature
from harness.models.shared.checkpoint_files import (
    CLIP_PREFIX,
    PIXEL_DECODER,
    POINTS_AND_LEVELS,
    PREDICTOR,
    StateDict,
    check_tensors,
    clip_inside,
    count_distinct,
    read_tensors,
    short_edge_of,
)
from harness.types import LoadedWeights

_HINT = "use a checkpoint of CLIP-VIS from its authors or from `harness train`"


def load_network(path: Path, config: ClipVisConfig | None = None) -> ClipVisNetwork:
    """Build the network of the checkpoint ``path`` and load it strictly, on the CPU, for evaluation.

    Raises `UserError` for a file that cannot be read, holds code, is not a checkpoint of CLIP-VIS, or has missing,
    unexpected or misshapen tensors.
    """
    config = config or ClipVisConfig()
    state = read_tensors(path, _HINT)
    if not any(name.startswith(CLIP_PREFIX) for name in state):
        state |= pretrained_clip(path, state, config)
    architecture = architecture_of(state, path)
    with torch.device("meta"):
        network = ClipVisNetwork(architecture, config.quick_gelu)
    check_tensors(network.state_dict(), state, path, "CLIP-VIS", _HINT)
    network.short_edge = short_edge_of(path, _HINT) or network.short_edge
    network.loaded_weights = LoadedWeights(len(state), len(state))  # no other tensors are accepted
    return load_state(network, state)


def released_variant(path: Path) -> int | None:
    """The place in `VARIANT_SIZES` of the sizes of a checkpoint, ``None`` where no released model has them."""
    state = read_tensors(path, _HINT)
    key = f"{PIXEL_DECODER}input_proj.0.0.weight"
    layers = count_distinct(state, rf"{PREDICTOR}transformer_cross_attention_layers\.(\d+)\.")
    if key not in state or not layers:
        raise UserError(str(path), f"is not a checkpoint of CLIP-VIS: it lacks {key}", _HINT)
    other = next((name for name in state if name.startswith("backbone.") and not name.startswith(CLIP_PREFIX)), None)
    if other is not None:  # OV2Seg has the same head
        raise UserError(str(path), f"is not a checkpoint of CLIP-VIS: it has {other}", _HINT)
    sizes = state[key].shape[1], layers + 1
    return VARIANT_SIZES.index(sizes) if sizes in VARIANT_SIZES else None


def load_state(network: ClipVisNetwork, state: Mapping[str, Tensor]) -> ClipVisNetwork:
    """Assign tensors to a network on the meta device, without a copy."""
    network.load_state_dict(state, strict=True, assign=True)
    network.backbone.restore_mask()
    return network.eval()


def architecture_of(state: Mapping[str, Tensor], path: Path) -> ClipVisArchitecture:
    """Infer all sizes from the tensors."""
    try:
        dim = state[f"{PREDICTOR}query_feat.weight"].shape[1]
        offsets = state[f"{PIXEL_DECODER}transformer.encoder.layers.0.self_attn.sampling_offsets.bias"]
        return ClipVisArchitecture(
            clip_model=clip_model_of(state, path),
            decoder_layers=count_distinct(state, rf"{PREDICTOR}transformer_cross_attention_layers\.(\d+)\."),
            queries=state[f"{PREDICTOR}query_feat.weight"].shape[0],
            dim=dim,
            heads=max(1, offsets.shape[0] // (2 * POINTS_AND_LEVELS)),
            feedforward=state[f"{PREDICTOR}transformer_ffn_layers.0.linear1.weight"].shape[0],
            encoder_layers=count_distinct(state, rf"{PIXEL_DECODER}transformer\.encoder\.layers\.(\d+)\."),
            encoder_feedforward=state[f"{PIXEL_DECODER}transformer.encoder.layers.0.linear1.weight"].shape[0],
        )
    except (KeyError, IndexError) as error:
        raise UserError(str(path), f"is not a checkpoint of CLIP-VIS: it lacks {error.args[0]}", _HINT) from error


def clip_model_of(state: Mapping[str, Tensor], path: Path) -> str:
    """The open_clip model that matches the shapes of the CLIP weights in ``state``; released backbones first."""
    found = _signature(state)
    library = open_clip()
    listed: list[str] = library.list_models()
    names = [*PRETRAINED, *(name for name in listed if not name.endswith("-quickgelu"))]
    for name in names:
        if _signature_of_config(library.get_model_config(name)) == found:
            return name
    raise UserError(str(path), "holds a CLIP model that is not a ResNet or ConvNeXt of open_clip", _HINT)


def _signature(state: Mapping[str, Tensor]) -> tuple[object, ...]:
    """The sizes that distinguish CLIP models: joint space, text tower, image tower."""
    text = state[f"{CLIP_PREFIX}text_projection"].shape
    layers = count_distinct(state, rf"{CLIP_PREFIX}transformer\.resblocks\.(\d+)\.")
    visual = f"{CLIP_PREFIX}visual."
    if f"{visual}attnpool.positional_embedding" in state:
        blocks = tuple(count_distinct(state, rf"{visual}layer{i}\.(\d+)\.") for i in (1, 2, 3, 4))
        side = round((state[f"{visual}attnpool.positional_embedding"].shape[0] - 1) ** 0.5)
        return (text[1], text[0], layers, "resnet", blocks, state[f"{visual}conv3.weight"].shape[0], side)
    depths = tuple(count_distinct(state, rf"{visual}trunk\.stages\.{i}\.blocks\.(\d+)\.") for i in range(4))
    width = state[f"{visual}trunk.stem.0.weight"].shape[0]
    head = "mlp" if f"{visual}head.mlp.fc1.weight" in state else "linear"
    return (text[1], text[0], layers, "convnext", depths, width, head)


def _signature_of_config(config: Mapping[str, Any]) -> tuple[object, ...] | None:
    """The signature of an open_clip configuration; ``None`` for other kinds of towers."""
    vision, text = config["vision_cfg"], config["text_cfg"]
    if "hf_model_name" in text or config.get("custom_text") or "width" not in text:
        return None
    towers = (config["embed_dim"], text["width"], text["layers"])
    if isinstance(vision.get("layers"), list):
        return (*towers, "resnet", tuple(vision["layers"]), vision["width"], vision["image_size"] // 32)
    size = _CONVNEXT.get(str(vision.get("timm_model_name")))
    return (*towers, "convnext", *size, vision.get("timm_proj", "linear")) if size else None


_CONVNEXT = {
    miniature.CLIP_NAME: (miniature.DEPTHS, miniature.WIDTHS[0]),
    "convnext_tiny": ((3, 3, 9, 3), 96),
    "convnext_small": ((3, 3, 27, 3), 96),
    "convnext_base": ((3, 3, 27, 3), 128),
    "convnext_large": ((3, 3, 27, 3), 192),
    "convnext_xlarge": ((3, 3, 27, 3), 256),
    "convnext_xxlarge": ((3, 4, 30, 3), 384),
}
"""Depths and first width of timm's ConvNeXts, and of the miniature."""


def pretrained_clip(where: Path | str, state: Mapping[str, Tensor], config: ClipVisConfig) -> StateDict:
    """CLIP weights from open_clip for a checkpoint without them (``where`` in messages), with checkpoint names."""
    name = config.clip_model or _clip_model_by_channels(state, where)
    source = config.clip_pretrained or PRETRAINED.get(name)
    if source is None and name == miniature.CLIP_NAME:
        source = str(miniatures.weights("clipvis", miniatures.DATASET) or "") or None
    if held := clip_inside(source):
        return held
    library = open_clip()
    if source is None or name not in library.list_models():
        what = (
            f'"{name}" is not an open_clip model'
            if source
            else f"holds no CLIP weights, and {name} has none by default"
        )
        raise UserError(str(where), what, "set clip_model and clip_pretrained (an open_clip tag or a file)")
    try:
        clip = create_clip(name, source, device="cpu")
    except (RuntimeError, OSError, ValueError) as error:  # open_clip reports a failed download as RuntimeError
        raise UserError(
            str(where),
            f"holds no CLIP weights, and {name} ({source}) cannot be loaded: {first_line(error)}",
            "go online once, or set clip_pretrained to a local file of these weights",
        ) from error
    return {f"{CLIP_PREFIX}{key}": t.float() if t.is_floating_point() else t for key, t in clip.state_dict().items()}


def _clip_model_by_channels(state: Mapping[str, Tensor], where: Path | str) -> str:
    key = f"{PIXEL_DECODER}input_proj.0.0.weight"
    if key not in state:
        raise UserError(str(where), f"is not a checkpoint of CLIP-VIS: it lacks {key}", _HINT)
    known = {2048: "RN50", 1024: "convnext_base_w_320"}
    channels = state[key].shape[1]
    if channels not in known:
        raise UserError(str(where), f"holds no CLIP weights; its backbone has {channels} channels", "set clip_model")
    return known[channels]
