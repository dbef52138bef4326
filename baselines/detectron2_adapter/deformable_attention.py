"""The compiled module that Mask2Former's descendants import, on top of the harness's own operator.

They import ``MultiScaleDeformableAttention``, a CUDA extension that each user has to compile. If it is missing, this
one replaces it for inference: with the harness's CUDA kernel on a GPU, with PyTorch elsewhere.
"""

from __future__ import annotations

import importlib.util
import logging
import sys
from types import ModuleType

from torch import Tensor

from harness.models.ops.deform_attn import deformable_attention

log = logging.getLogger(__name__)

_NAME = "MultiScaleDeformableAttention"


def provide() -> None:
    """Make the module importable, unless it is installed."""
    if _NAME in sys.modules or importlib.util.find_spec(_NAME) is not None:
        return
    module = ModuleType(_NAME, __doc__)
    module.ms_deform_attn_forward = _forward  # type: ignore[attr-defined]
    module.ms_deform_attn_backward = _backward  # type: ignore[attr-defined]
    module.__spec__ = importlib.util.spec_from_loader(_NAME, None)
    sys.modules[_NAME] = module
    log.info("%s is not installed: the harness's own operator replaces it", _NAME)


def _forward(
    value: Tensor, shapes: Tensor, level_start: Tensor, locations: Tensor, weights: Tensor, im2col_step: int
) -> Tensor:
    """As the extension's: ``(N, Lq, M * D)``; level starts follow from the shapes; the step is ignored."""
    return deformable_attention(value, shapes, locations, weights)


def _backward(*arguments: object) -> None:
    raise NotImplementedError(f"{_NAME} is not installed; the harness's replacement supports inference only")
