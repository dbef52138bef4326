"""Loads a checkpoint into a detectron2 model: all required weights, or an error."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import torch

from harness.errors import UserError
from harness.models.shared.checkpoint_files import StateDict, read_tensors, refuse_not_finite
from harness.types import LoadedWeights

log = logging.getLogger(__name__)

_HINT = "give the weights of this config"
_COUNTER = "num_batches_tracked"
"""BatchNorm's counter of training steps, which inference ignores and old checkpoints lack."""
_FROM_CONFIG = ("pixel_mean", "pixel_std")
"""Buffers that old models have and that the config fills in, as detectron2's own checkpointer says."""
_NO_WEIGHTS = ("anchor_generator.cell_anchors", *_FROM_CONFIG)
"""Weights in old checkpoints that newer models compute themselves."""


def load_weights(network: torch.nn.Module, path: Path, allow_missing: Sequence[str] = ()) -> LoadedWeights:
    """Load a checkpoint into a model; `harness.models.shared.checkpoint_files.read_tensors` says which forms are read.

    Raises `UserError` where a weight that no pattern of ``allow_missing`` names is missing or has another shape, where
    one is not finite, and for a pattern that names no weight. Unused weights are a warning.
    """
    state = read_tensors(path, 'save it again as torch.save({"model": model.state_dict()}, FILE)')
    for name, value in state.items():
        if value.is_floating_point():
            refuse_not_finite(value, name, path, "give weights of a training run that did not diverge")
    needed = [name for name in network.state_dict() if not name.endswith(_COUNTER) and name not in _FROM_CONFIG]
    _refuse_unknown(allow_missing, needed)
    own = network.state_dict()
    # As detectron2 does with all: a classifier of other words, for example.
    reshaped = [n for n in state if n in own and state[n].shape != own[n].shape and _is_named(n, allow_missing)]
    for name in reshaped:
        del state[name]
    keys = _loaded(network, state, path)
    missing, refused = _missing(keys, needed, allow_missing)
    if missing and not hasattr(state, "_metadata"):
        # Without the versions of its modules, as in pickles of the model zoo, Mask2Former takes a state for an old one
        # and renames what is in it.
        state._metadata = own._metadata  # type: ignore[attr-defined]
        again = _loaded(network, state, path)
        if len(_missing(again, needed, allow_missing)[0]) < len(missing):
            keys = again
            missing, refused = _missing(keys, needed, allow_missing)
    if refused:
        _refuse(path, refused, len(needed), keys.unexpected_keys)
    if missing:
        what = "weights are missing or of another shape, as allow_missing permits: the model's initial values are kept"
        log.info("%s: %s %s", path, len(missing), what)
    left_over = [n for n in keys.unexpected_keys if not n.endswith(_COUNTER) and not any(k in n for k in _NO_WEIGHTS)]
    if left_over:
        log.warning("%s: %s weights are unused by the model, first: %s", path, len(left_over),
                    left_over[0])  # fmt: skip
    return LoadedWeights(len(needed), len(needed) - len(missing), (*reshaped, *left_over))


def _loaded(network: torch.nn.Module, state: StateDict, path: Path) -> Any:
    """Load tensors that fit by name; returns the missing and unexpected names, as PyTorch does."""
    try:
        return network.load_state_dict(state, strict=False)
    # A module may read its weights with custom code, which may raise anything for weights of another model.
    except Exception as error:
        what = f"does not fit the model: {' '.join(str(error).split())[:300]}"
        raise UserError(str(path), what, _HINT) from error


def _missing(keys: Any, needed: Sequence[str], allowed: Sequence[str]) -> tuple[list[str], list[str]]:
    """The weights that are missing, and those of them that must not be."""
    missing = sorted(set(keys.missing_keys).intersection(needed))
    return missing, [name for name in missing if not _is_named(name, allowed)]


def _is_named(name: str, patterns: Sequence[str]) -> bool:
    return any(fnmatchcase(name, pattern) for pattern in patterns)


def _refuse(path: Path, missing: Sequence[str], needed: int, unexpected: Sequence[str]) -> None:
    """The error for missing weights, with the checkpoint's other names."""
    if len(missing) == needed:
        what = "has no weight of the model"
    else:
        what = f"lacks {len(missing)} of the model's {needed} weights ({_some(missing)}), which would stay random"
    if unexpected:
        what += f"; it has {len(unexpected)} others ({_some(unexpected)})"
    raise UserError(
        str(path), what, f"{_HINT}, or name in allow_missing the weights that may keep the model's initial values"
    )


def _refuse_unknown(patterns: Sequence[str], names: Sequence[str]) -> None:
    for pattern in patterns:
        if not any(fnmatchcase(name, pattern) for name in names):
            what = f'allow_missing "{pattern}" names no weight of the model'
            raise UserError("detectron2", what, f"its weights are called {_some(names)}")


def _some(names: Sequence[str], shown: int = 3) -> str:
    return ", ".join(names[:shown]) + (", ..." if len(names) > shown else "")
