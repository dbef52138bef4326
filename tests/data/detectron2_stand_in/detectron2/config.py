"""A tree of settings: what the adapter asks of detectron2's config."""

from ast import literal_eval
from contextlib import suppress
from copy import deepcopy
from pathlib import Path

import yaml


class CfgNode(dict):
    """Keys are attributes; merging refuses keys that are not there, and numbers of another type."""

    def __getattr__(self, name):
        if name not in self:
            raise AttributeError(name)
        return self[name]

    def __setattr__(self, name, value):
        self[name] = value

    def clone(self):
        return deepcopy(self)

    def merge_from_file(self, cfg_filename, allow_unsafe=True):
        assert not allow_unsafe
        self._merge(_loaded(Path(cfg_filename)))

    def _merge(self, values):
        for key, value in values.items():
            if key not in self:
                raise KeyError(f"Non-existent config key: {key}")
            if isinstance(value, dict):
                self[key]._merge(value)
            else:
                self[key] = _checked(self[key], value, key)

    def merge_from_list(self, cfg_list):
        for key, value in zip(cfg_list[0::2], cfg_list[1::2], strict=True):
            node = self
            *above, last = key.split(".")
            for part in above:
                assert part in node, f"Non-existent key: {key}"
                node = node[part]
            assert last in node, f"Non-existent key: {key}"
            node[last] = _checked(node[last], value, key)

    def freeze(self):
        pass


def _loaded(path):
    """The content of a file on top of those that it builds on."""
    values = yaml.safe_load(path.read_text())
    bases = values.pop("_BASE_", [])
    for base in [bases] if isinstance(bases, str) else bases:
        below = _loaded(path.parent / base)
        _put(values, below)
        values = below
    return values


def _put(values, into):
    for key, value in values.items():
        if isinstance(value, dict) and isinstance(into.get(key), dict):
            _put(value, into[key])
        else:
            into[key] = value


def _checked(old, new, key):
    if isinstance(new, str):
        with suppress(ValueError, SyntaxError):
            new = literal_eval(new)
    if type(old) is not type(new) and {type(old), type(new)} != {list, tuple} and old is not None:
        raise ValueError(f"Type mismatch ({type(old)} vs. {type(new)}) for config key: {key}")
    return new


def get_cfg():
    sizes = CfgNode(MIN_SIZE_TEST=800, MAX_SIZE_TEST=1333, FORMAT="BGR")
    model = CfgNode(META_ARCHITECTURE="GeneralizedRCNN", DEVICE="cuda", WEIGHTS="")
    return CfgNode(MODEL=model, INPUT=sizes, DATASETS=CfgNode(TRAIN=(), TEST=()), OUTPUT_DIR="./output")
