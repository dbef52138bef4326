"""Builds a detectron2 model: merged config, vocabulary in the catalog, weights."""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
import yaml

from harness.baselines.detectron2_adapter import deformable_attention, missing_package_error
from harness.baselines.detectron2_adapter.config import Detectron2Config
from harness.baselines.detectron2_adapter.user_code import function_of, imported
from harness.baselines.detectron2_adapter.weights import load_weights
from harness.baselines.detectron2_adapter.words import WordsMetadata, entry_of
from harness.errors import UserError
from harness.run_folder.provenance import file_digest
from harness.types import LoadedWeights, Vocabulary

try:
    from detectron2.config import get_cfg
    from detectron2.modeling import build_model
except ImportError as error:
    raise missing_package_error(error) from error

_NOT_OF_THE_MODEL = ("MODEL.DEVICE", "MODEL.WEIGHTS", "DATASETS.TEST", "OUTPUT_DIR")
"""Keys that the run sets or no code reads: they do not define the model."""
_HINT = "name the modules and functions that add the project's keys and models in setup (MODULE, MODULE:FUNCTION)"


def import_project(config: Detectron2Config) -> None:
    """Make the project's modules importable, and the extension that Mask2Former's descendants need."""
    deformable_attention.provide()
    if config.project is not None and str(config.project.resolve()) not in sys.path:
        sys.path.insert(0, str(config.project.resolve()))


def merged_config(config: Detectron2Config) -> Any:
    """detectron2's config after ``setup``, the file with all that it builds on, and ``options``; not frozen.

    Raises `UserError` where a module of ``setup`` does not load, or a key is unknown or of another type.
    """
    import_project(config)
    cfg = get_cfg()
    for name in config.setup:
        if ":" in name:
            function_of(name, "setup")(cfg)
        else:
            imported(name, name, "setup")
    try:
        cfg.merge_from_file(str(config.config_file), allow_unsafe=False)  # its default runs code that a file names
        options = [word for key, value in config.settings() for word in (key, _fitting(cfg, key, value))]
        cfg.merge_from_list(options)
    # The exceptions of detectron2 for keys, values and files.
    except (KeyError, ValueError, AssertionError, OSError, RecursionError, yaml.YAMLError) as error:
        raise _cannot_be_built(config, error) from error
    return cfg


def _fitting(cfg: Any, key: str, value: Any) -> Any:
    """A number as the config has it at ``key``, whole or not, or as text: detectron2 refuses other types."""
    before = cfg
    for part in key.split("."):
        before = before.get(part) if isinstance(before, Mapping) else None
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return value
    if isinstance(before, float) or (isinstance(before, int) and isinstance(value, float) and value.is_integer()):
        return type(before)(value)
    return repr(str(value)) if isinstance(before, str) else value  # detectron2 evaluates texts


def config_digest(cfg: Any) -> str:
    """SHA-256 of a merged config. Files that it names count by their content, wherever they are."""
    content = json.dumps(_content(cfg, ""), sort_keys=True, default=str)
    return hashlib.sha256(content.encode()).hexdigest()


def _content(value: Any, key: str) -> Any:
    if isinstance(value, Mapping):
        below = {name: f"{key}.{name}".lstrip(".") for name in value}
        return {str(name): _content(value[name], below[name]) for name in value if below[name] not in _NOT_OF_THE_MODEL}
    if isinstance(value, (list, tuple)):
        return [_content(one, key) for one in value]
    if isinstance(value, str) and _is_file(value):
        return {"file": Path(value).name, "sha256": file_digest(Path(value))}
    return value


def _is_file(text: str) -> bool:
    try:
        return Path(text).is_file()
    except (OSError, ValueError):  # a text that is too long, or not a name
        return False


class NetworkBuilder:
    """Builds the model of a config for successive vocabularies."""

    def __init__(self, config: Detectron2Config, device: str) -> None:
        self.config, self.device = config, device
        self.cfg = merged_config(config)
        self._tell = function_of(config.words, "words") if config.words else None

    def build(self, vocabulary: Vocabulary) -> torch.nn.Module:
        """The model with its initial weights, and the vocabulary as the names of its classes.

        Without words it is the config's own. Raises `UserError` where the config does not fit the project.
        """
        entry, cfg = entry_of(vocabulary), self.cfg.clone()
        cfg.MODEL.DEVICE = self.device
        counts: list[Any] = []
        if vocabulary.categories:
            cfg.DATASETS.TEST = (entry.name,)
            counts = [word for key in self.config.class_counts for word in (key, len(vocabulary.categories))]
        try:
            cfg.merge_from_list(counts)
            cfg.freeze()
            network: torch.nn.Module = build_model(cfg)
        except (KeyError, ValueError, AssertionError, OSError) as error:
            raise _cannot_be_built(self.config, error) from error
        if vocabulary.categories:
            self.tell(network, entry)
        return network.eval()

    def load(self, vocabulary: Vocabulary, checkpoint: Path) -> tuple[torch.nn.Module, LoadedWeights]:
        """The model with the weights of a checkpoint, and how they were loaded."""
        network = self.build(vocabulary)
        return network, load_weights(network, checkpoint, self.config.allow_missing)

    def can_tell(self) -> bool:
        """Whether a built model can be given other words."""
        return self._tell is not None and not self.config.class_counts

    def tell(self, network: torch.nn.Module, entry: WordsMetadata) -> None:
        """Call the function ``words``, if there is one."""
        if self._tell is not None:
            self._tell(network, entry)


def _cannot_be_built(config: Detectron2Config, error: Exception) -> UserError:
    what = f"the model cannot be built: {' '.join(str(error).split())}"
    hint = _HINT
    if isinstance(error, FileNotFoundError):
        hint = "run harness in the folder that the project's paths are relative to, or set absolute ones in options"
    return UserError(str(config.config_file), what, hint)
