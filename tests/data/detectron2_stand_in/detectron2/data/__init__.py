"""The catalogs."""

from types import SimpleNamespace


class _DatasetCatalog(dict):
    def register(self, name, func):
        assert name not in self
        self[name] = func

    def get(self, name):
        return self[name]()


class Metadata(SimpleNamespace):
    def set(self, **values):
        for key, value in values.items():
            assert getattr(self, key, value) == value
            setattr(self, key, value)
        return self


class _MetadataCatalog(dict):
    def get(self, name):
        return self.setdefault(name, Metadata(name=name))


DatasetCatalog = _DatasetCatalog()
MetadataCatalog = _MetadataCatalog()
