"""The vocabulary in detectron2's catalog, from which models read the names of classes."""

from __future__ import annotations

from typing import Any

from harness.baselines.detectron2_adapter import missing_package_error
from harness.types import Vocabulary

try:
    from detectron2.data import Metadata, MetadataCatalog
except ImportError as error:
    raise missing_package_error(error) from error

_read: set[str] = set()
"""Names of the entries whose words were read."""


class WordsMetadata(Metadata):  # type: ignore[misc]
    """A catalog entry that records reads of its ``thing_classes``."""

    def __getattribute__(self, name: str) -> Any:
        if name == "thing_classes":
            _read.add(super().__getattribute__("name"))
        return super().__getattribute__(name)


def entry_of(vocabulary: Vocabulary) -> WordsMetadata:
    """The catalog entry that holds a vocabulary, made at first use; classes are in the vocabulary's order."""
    name = f"harness_words_{vocabulary.digest[:16]}"
    if name not in MetadataCatalog:
        entry = WordsMetadata(name=name)
        names = [category.name for category in vocabulary.categories]
        positions = {category.id: index for index, category in enumerate(vocabulary.categories)}
        entry.set(thing_classes=names, thing_dataset_id_to_contiguous_id=positions)
        MetadataCatalog[name] = entry
        _read.discard(name)  # setting them is not reading them
    found: WordsMetadata = MetadataCatalog.get(name)
    return found


def were_read(entry: WordsMetadata) -> bool:
    """Whether the model has read the vocabulary of an entry."""
    return entry.name in _read
