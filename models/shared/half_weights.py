"""Networks in half precision with weights that are converted once: autocast would convert them in every window."""

from __future__ import annotations

import copy
from typing import Any, TypeVar

import torch
from torch import nn

from harness.models.mask2former.transformer_decoder import Attention

Network = TypeVar("Network", bound=nn.Module)

HALF = (nn.Conv2d, nn.Linear, Attention)
"""Modules whose weights and biases autocast converts. Others, norms and embeddings among them, stay as they are."""


def with_half_weights(network: Network, dtype: torch.dtype, within: str = "") -> Network:
    """A copy of a network, to be run under autocast, whose convolutions and linear layers have weights of ``dtype``.

    Results are the same bytes as with autocast's own conversions. The copy shares everything else with the network,
    which remains as it is. Only modules whose names begin with ``within`` are converted. float32 gives the network.
    """
    if dtype == torch.float32:
        return network
    copied = copy_of_modules(network)
    for name, module in copied.named_modules():
        if isinstance(module, HALF) and name.startswith(within):
            for key, parameter in list(module.named_parameters(recurse=False)):
                setattr(module, key, nn.Parameter(parameter.detach().to(dtype), requires_grad=False))
    return copied


def copy_of_modules(network: Network) -> Network:
    """A copy whose modules are new and whose parameters and buffers are those of the network."""
    shared: dict[int, Any] = {id(tensor): tensor for tensor in (*network.parameters(), *network.buffers())}
    return copy.deepcopy(network, shared)
