"""Text embeddings of a vocabulary for OV2Seg: released rows, or computed with a CLIP text tower; the source is logged.

Released rows come from learned prompts (DetPro). Computed ones average ViLD's fourteen templates per name, which is a
different model: its scores are not comparable with published ones. A category whose name lists synonyms between commas
scores as the best of them.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from harness.baselines.ov2seg.config import Ov2SegConfig
from harness.baselines.ov2seg.released_classifiers import RELEASED_FILES, read_rows, released_file
from harness.errors import UserError, first_line
from harness.models.backbones.clip import create_clip, open_clip
from harness.models.shared.checkpoint_files import CLIP_PREFIX, clip_inside
from harness.models.shared.text_classifier import TextClassifier, cached_text_classifier, tower_digest
from harness.types import Vocabulary


class SourcedClassifier(NamedTuple):
    """A text classifier, and its source as text."""

    classifier: TextClassifier
    source: str
    is_published: bool
    """Whether published numbers use it, or none exist for the dataset."""


class ClipTextTower(nn.Module):
    """The text half of a CLIP model of open_clip, as ``clip_model``, for evaluation.

    Raises `UserError` if open_clip does not know ``name`` or cannot load the weights ``pretrained``.
    """

    def __init__(self, name: str, pretrained: str) -> None:
        super().__init__()
        if name not in open_clip().list_models():
            raise UserError("clip_model", f'"{name}" is not an open_clip model', "for example ViT-B-32-quickgelu")
        try:
            held = clip_inside(pretrained)
            self.clip_model: Any = create_clip(name, None if held else pretrained, device="cpu")
            if held:
                self.clip_model.load_state_dict({key.removeprefix(CLIP_PREFIX): t for key, t in held.items()})
        except (RuntimeError, OSError, ValueError) as error:  # open_clip reports a failed download as RuntimeError
            raise UserError(
                "text classifier",
                f"the text tower of {name} ({pretrained}) cannot be loaded: {first_line(error)}",
                "go online once, set clip_pretrained to a local file of these weights, or set text_classifier to a"
                " released file",
            ) from error
        if not hasattr(self.clip_model, "transformer"):
            raise UserError("clip_model", f'"{name}" has no text tower of CLIP\'s form', "use one of OpenAI's CLIPs")
        self.name = name
        del self.clip_model.visual
        self.requires_grad_(False).eval()

    @property
    def embed_dim(self) -> int:
        """Size of its embeddings."""
        return int(self.clip_model.text_projection.shape[1])

    def encode_text(self, tokens: Tensor) -> Tensor:
        """Encode tokens ``(texts, 77)``; returns ``(texts, embed_dim)``, not normalised."""
        features: Tensor = self.clip_model.encode_text(tokens)
        return features


def text_classifier(
    config: Ov2SegConfig, vocabulary: Vocabulary, dataset: str, embed_dim: int, device: torch.device, cache: Path
) -> SourcedClassifier:
    """Return the text classifier of ``vocabulary`` for ``config``: unit rows of ``embed_dim`` on ``device``.

    ``dataset`` selects the file in a folder of released ones. ``cache`` stores computed embeddings. Raises `UserError`
    for an empty vocabulary, a file that does not fit, and weights that cannot be loaded.
    """
    names = [category.name for category in vocabulary.categories]
    if not names:
        raise UserError("vocabulary", "is empty", "name at least one category")
    if not isinstance(config.text_classifier, str):
        path = released_file(config.text_classifier, dataset)
        rows = torch.from_numpy(read_rows(path, vocabulary.categories, embed_dim)).to(device)
        classifier = TextClassifier(functional.normalize(rows, dim=-1), torch.arange(len(names), device=device))
        return SourcedClassifier(classifier, f"read from {path}", True)
    tower = ClipTextTower(config.clip_model, config.clip_pretrained).to(device)
    if tower.embed_dim != embed_dim:
        what = f'"{tower.name}" embeds in {tower.embed_dim} dimensions, the checkpoint needs {embed_dim}'
        raise UserError("clip_model", what, "choose a text tower of that size")
    found = cached_text_classifier(cache, tower_digest(tower), tower, names, clean=True)
    source = f"computed with the text tower of {tower.name} ({config.clip_pretrained})"
    return SourcedClassifier(found, source, dataset not in RELEASED_FILES)
