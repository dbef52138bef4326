"""Peak memory of text embeddings and of a video by the size of the vocabulary; a process of its own, as peaks stay.

``python -m vocabulary_peak_memory FOLDER FRAMES FEW MANY`` prints, in bytes, the peaks after: embedding FEW words,
embedding MANY, a video of FRAMES frames with FEW, the same with MANY. FOLDER is for scratch files. Embeddings have
CLIP's 1,024 numbers but come from a stand-in; the video goes through a tiny CLIP-VIS with the usual 100 queries.
"""

from __future__ import annotations

import json
import resource
import sys
from dataclasses import replace
from pathlib import Path

import tiny_clipvis
import torch
import weight_recipe
from clipvis_peak_memory import HEIGHT, SETTINGS, WIDTH, Moving
from torch import Tensor

from harness.models.clipvis.checkpoint import assign
from harness.models.clipvis.config import ClipVisConfig
from harness.models.clipvis.model import ClipVis
from harness.models.clipvis.network import ClipVisNetwork
from harness.models.clipvis.text_classifier import TextClassifier, build_text_classifier, classes_of
from harness.types import Category, Video, Vocabulary

WIDE, QUERIES = 1024, 100
NARROW = 32  # of the tiny CLIP


class Encoder:
    """Gives every text an embedding of its own, as wide as CLIP's."""

    def __init__(self) -> None:
        self.table = torch.randn(512, WIDE, generator=torch.Generator().manual_seed(0))

    def encode_text(self, tokens: Tensor) -> Tensor:
        return self.table[tokens.sum(1) % len(self.table)]


class Embedded(ClipVis):
    """Takes random text embeddings: those of its tiny CLIP would take most of the time."""

    def text_classifier(self, vocabulary: Vocabulary) -> TextClassifier:
        """Unit embeddings, one per category."""
        count = len(vocabulary.categories)
        made = torch.randn(count, NARROW, generator=torch.Generator().manual_seed(0))
        return TextClassifier(torch.nn.functional.normalize(made, dim=-1), classes_of([1] * count))


def peak() -> int:
    """Largest resident size of this process so far, in bytes."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def peaks(folder: Path, frames: int, sizes: list[int]) -> list[int]:
    """Peaks after each size of vocabulary, first of embedding its words, then of a video."""
    tiny_clipvis.tiny_network(folder)  # makes its CLIP known
    found = []
    for words in sizes:
        build_text_classifier(Encoder(), [f"thing {number}" for number in range(words)])
        found.append(peak())
    with torch.device("meta"):
        network = ClipVisNetwork(replace(tiny_clipvis.TINY, queries=QUERIES))
    model = Embedded(assign(network, weight_recipe.state(network.state_dict())), ClipVisConfig.model_validate(SETTINGS))
    for words in sizes:
        vocabulary = Vocabulary(tuple(Category(i, f"thing {i}") for i in range(1, words + 1)))
        tracks = model.predict(Video(1, "moving", HEIGHT, WIDTH, Moving(frames)), vocabulary)
        assert len(tracks) == SETTINGS["detections_per_video"]
        found.append(peak())
    return found


if __name__ == "__main__":
    torch.set_num_threads(1)
    print(json.dumps(peaks(Path(sys.argv[1]), int(sys.argv[2]), [int(text) for text in sys.argv[3:]])))
