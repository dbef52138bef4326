"""A tree of settings: what the adapter asks of detectron2's config."""

from pathlib import Path

import yaml


class CfgNode(dict):
    """Keys are attributes; merging refuses keys that are not there."""

    def __getattr__(self, name):
        if name not in self:
            raise AttributeError(name)
        return self[name]

    def __setattr__(self, name, value):
        self[name] = value

    def merge_from_file(self, cfg_filename, allow_unsafe=True):
        assert not allow_unsafe
        self._merge(yaml.safe_load(Path(cfg_filename).read_text()))

    def _merge(self, values):
        for key, value in values.items():
            if key not in self:
                raise KeyError(f"Non-existent config key: {key}")
            if isinstance(value, dict):
                self[key]._merge(value)
            else:
                self[key] = value

    def merge_from_list(self, cfg_list):
        for key, value in zip(cfg_list[0::2], cfg_list[1::2], strict=True):
            node = self
            *above, last = key.split(".")
            for part in above:
                assert part in node, f"Non-existent key: {key}"
                node = node[part]
            assert last in node, f"Non-existent key: {key}"
            node[last] = value

    def freeze(self):
        pass


def get_cfg():
    sizes = CfgNode(MIN_SIZE_TEST=800, MAX_SIZE_TEST=1333, FORMAT="BGR")
    return CfgNode(MODEL=CfgNode(META_ARCHITECTURE="GeneralizedRCNN", DEVICE="cuda"), INPUT=sizes)
