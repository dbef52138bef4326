"""Checkpoints of OV2Seg: read without running code, sizes inferred from shapes, loaded strictly.

Parts of a checkpoint that inference does not need and that are left out (docs/ov2seg.md, *Weights*):

- ``sem_seg_head.predictor.class_embed.zs_weight``, the text matrix of the vocabulary it was trained with;
- ``criterion.*``, constants of the losses;
- ``*.num_batches_tracked``, counters of norms, and ``*.relative_position_index``, a constant of Swin.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from math import isqrt
from pathlib import Path
from typing import cast

from torch import Tensor

from harness.baselines.ov2seg.network import Ov2SegArchitecture, Ov2SegNetwork
from harness.errors import UserError, first_line
from harness.models.backbones.resnet import ResNetSize
from harness.models.backbones.swin import SwinSize
from harness.models.shared.checkpoint_files import (
    PIXEL_DECODER,
    POINTS_AND_LEVELS,
    PREDICTOR,
    StateDict,
    check_tensors,
    count_distinct,
    read_tensors,
    short_edge_of,
)
from harness.types import LoadedWeights

BACKBONE = "backbone."
IGNORED_TENSORS = re.compile(
    r"criterion\.|sem_seg_head\.predictor\.class_embed\.zs_weight$"
    r"|backbone\..*\.(num_batches_tracked|relative_position_index)$"
)
RENAMED = {f"{PREDICTOR}static_query.weight": f"{PREDICTOR}query_feat.weight"}
"""Names of older checkpoints."""
_HINT = "use a checkpoint of OV2Seg from its authors or from `harness train`"

_StageDepths = tuple[int, int, int, int]


def load_network(path: Path) -> Ov2SegNetwork:
    """Build the network of the checkpoint ``path`` and load it strictly, on the CPU, for evaluation.

    Raises `UserError` for a file that cannot be read, holds code, is not a checkpoint of OV2Seg, or has missing,
    unexpected or misshapen tensors.
    """
    everything = read_tensors(path, _HINT)
    state = used(everything)
    architecture = architecture_of(state, path)
    try:
        network = Ov2SegNetwork(architecture)
    except (ValueError, ZeroDivisionError) as error:  # PyTorch's layers refuse sizes that do not divide
        raise UserError(str(path), f"has sizes that no OV2Seg has: {first_line(error)}", _HINT) from error
    check_tensors(network.state_dict(), state, path, "OV2Seg", _HINT)
    network.load_state_dict(state, strict=True, assign=True)
    network.short_edge = short_edge_of(path, _HINT) or network.short_edge
    unused = tuple(name for name in everything if IGNORED_TENSORS.match(name))
    network.loaded_weights = LoadedWeights(len(state), len(state), unused)
    return network.eval()


def used(state: Mapping[str, Tensor]) -> StateDict:
    """The tensors that inference needs, with their current names."""
    return {RENAMED.get(name, name): tensor for name, tensor in state.items() if not IGNORED_TENSORS.match(name)}


def architecture_of(state: Mapping[str, Tensor], path: Path) -> Ov2SegArchitecture:
    """Infer all sizes from the tensors."""
    try:
        offsets = state[f"{PIXEL_DECODER}transformer.encoder.layers.0.self_attn.sampling_offsets.bias"]
        queries, dim = state[f"{PREDICTOR}query_feat.weight"].shape
        return Ov2SegArchitecture(
            backbone=swin_size(state) if f"{BACKBONE}patch_embed.proj.weight" in state else resnet_size(state),
            decoder_layers=count_distinct(state, rf"{PREDICTOR}transformer_cross_attention_layers\.(\d+)\."),
            queries=queries,
            dim=dim,
            heads=max(1, offsets.shape[0] // (2 * POINTS_AND_LEVELS)),
            feedforward=state[f"{PREDICTOR}transformer_ffn_layers.0.linear1.weight"].shape[0],
            encoder_layers=count_distinct(state, rf"{PIXEL_DECODER}transformer\.encoder\.layers\.(\d+)\."),
            encoder_feedforward=state[f"{PIXEL_DECODER}transformer.encoder.layers.0.linear1.weight"].shape[0],
            embed_dim=state[f"{PREDICTOR}class_embed.linear.2.weight"].shape[0],
        )
    except KeyError as error:
        raise UserError(str(path), f"is not a checkpoint of OV2Seg: it lacks {error.args[0]}", _HINT) from error
    except (IndexError, ValueError) as error:
        what = "is not a checkpoint of OV2Seg: a tensor that defines its sizes has too few or too many dimensions"
        raise UserError(str(path), what, _HINT) from error


def released_variant(path: Path) -> int | None:
    """0 for a checkpoint with a ResNet-50, 1 with Swin-B, ``None`` with another backbone."""
    backbone = architecture_of(used(read_tensors(path, _HINT)), path).backbone
    if isinstance(backbone, SwinSize):
        return 1 if (backbone.width, backbone.blocks) == (SwinSize().width, SwinSize().blocks) else None
    return 0 if backbone == ResNetSize() else None


def resnet_size(state: Mapping[str, Tensor]) -> ResNetSize:
    """Blocks and width of the ResNet in ``state``."""
    blocks = [count_distinct(state, rf"{BACKBONE}base\.layer{i}\.(\d+)\.") for i in (1, 2, 3, 4)]
    return ResNetSize(cast(_StageDepths, tuple(blocks)), state[f"{BACKBONE}base.conv1.weight"].shape[0])


def swin_size(state: Mapping[str, Tensor]) -> SwinSize:
    """Width, blocks, heads and window of the Swin in ``state``."""
    blocks = [count_distinct(state, rf"{BACKBONE}layers\.{i}\.blocks\.(\d+)\.") for i in range(4)]
    tables = [state[f"{BACKBONE}layers.{i}.blocks.0.attn.relative_position_bias_table"] for i in range(4)]
    heads = [table.shape[1] for table in tables]
    width = state[f"{BACKBONE}patch_embed.proj.weight"].shape[0]
    return SwinSize(
        width, cast(_StageDepths, tuple(blocks)), cast(_StageDepths, tuple(heads)), (isqrt(len(tables[0])) + 1) // 2
    )
