"""Text embeddings of a vocabulary: names, their synonyms, fourteen templates (docs/clipvis.md, *Classification*)."""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.nn import Parameter, functional

from harness.errors import UserError
from harness.models.backbones.clip import open_clip
from harness.paths import cache_folder

BATCH = 128
SYNONYMS_AT_ONCE = 512
"""Number of synonyms whose prompts are in memory: 29 MB at 1,024 numbers each. They are whole batches, so that every
prompt is in the same batch as without this."""
PROMPT_TEMPLATES = (
    "a photo of a {}.",
    "This is a photo of a {}",
    "There is a {} in the scene",
    "There is the {} in the scene",
    "a photo of a {} in the scene",
    "a photo of a small {}.",
    "a photo of a medium {}.",
    "a photo of a large {}.",
    "This is a photo of a small {}.",
    "This is a photo of a medium {}.",
    "This is a photo of a large {}.",
    "There is a small {} in the scene.",
    "There is a medium {} in the scene.",
    "There is a large {} in the scene.",
)
"""ViLD's templates in the spelling of the official code, which omits some full stops."""

LOGITS_AT_ONCE = 4 << 20
"""Class logits of so many frames, queries and classes together are computed at once: 16 MB, and about five times that
with what follows from them. A window of 10 frames with 100 queries has more from 4,195 classes on."""


@dataclass(frozen=True, eq=False)
class TextClassifier:
    """Unit text embeddings of a vocabulary; a class scores as the best of its synonyms."""

    weights: Tensor
    """``(synonyms, embed_dim)`` float32, unit rows, the synonyms of a class side by side."""
    class_of: Tensor
    """``(synonyms,)`` int64: the class of each row, ascending from 0."""

    @cached_property
    def classes(self) -> int:
        """Number of classes. The first time that it is asked for the host waits for the device."""
        return int(self.class_of[-1]) + 1


class TextEncoder(Protocol):
    """Encodes tokens: a `ClipBackbone`, or a test double."""

    def encode_text(self, tokens: Tensor) -> Tensor: ...


class TextTower(TextEncoder, Protocol):
    """A text encoder with known weights, so that its embeddings can be cached: a `ClipBackbone`, or another tower."""

    @property
    def name(self) -> str:
        """open_clip's name of the model."""
        ...

    @property
    def clip_model(self) -> Any:
        """open_clip's model, with or without its image half (``visual``)."""
        ...

    def parameters(self) -> Iterator[Parameter]: ...


def synonyms_of(name: str, clean: bool = False) -> list[str]:
    """Split a class name at its commas, as the official code does.

    Underscores and parentheses stay unchanged (QUIRK) unless ``clean``.
    """
    parts = name.replace(", ", ",").split(",")
    return [" ".join(part.translate(_BLANKS).split()) for part in parts] if clean else parts


def prompts_of(synonym: str) -> list[str]:
    """The prompts of one synonym."""
    return [template.format(synonym) for template in PROMPT_TEMPLATES]


def tokenize(texts: Sequence[str]) -> Tensor:
    """CLIP's tokens ``(texts, 77)`` int64: lower-cased byte pairs, start 49406, end 49407, then zeros."""
    tokens: Tensor = open_clip().SimpleTokenizer()(list(texts))
    return tokens


@torch.no_grad()
def build_text_classifier(
    encoder: TextEncoder, names: Sequence[str], *, clean: bool = False, device: torch.device | str = "cpu"
) -> TextClassifier:
    """Embed ``names`` with all templates: unit embeddings, averaged per synonym, made unit again."""
    check_names(names)
    groups = [synonyms_of(name, clean) for name in names]
    synonyms = [synonym for group in groups for synonym in group]
    parts = [synonyms[start : start + SYNONYMS_AT_ONCE] for start in range(0, len(synonyms), SYNONYMS_AT_ONCE)]
    weights = torch.cat([_embed(encoder, part, device) for part in parts])
    return TextClassifier(weights, classes_of([len(group) for group in groups]).to(weights.device))


def _embed(encoder: TextEncoder, synonyms: Sequence[str], device: torch.device | str) -> Tensor:
    """Unit embeddings ``(synonyms, embed_dim)``, each the mean over the templates."""
    prompts = [prompt for synonym in synonyms for prompt in prompts_of(synonym)]
    features = torch.cat(list(encode_prompts(encoder, prompts, device)))
    unit = functional.normalize(features.float(), dim=-1).view(-1, len(PROMPT_TEMPLATES), features.shape[-1])
    return functional.normalize(unit.mean(1), dim=-1)


def encode_prompts(encoder: TextEncoder, prompts: Sequence[str], device: torch.device | str) -> Iterator[Tensor]:
    """Yield features ``(at most 128, embed_dim)`` of the prompts in order."""
    for tokens in torch.split(tokenize(prompts), BATCH):
        yield encoder.encode_text(tokens.to(device))


def classes_of(synonyms_per_class: Sequence[int]) -> Tensor:
    """The class of each synonym, ``(synonyms,)``, from the number of synonyms of each class."""
    return torch.repeat_interleave(torch.tensor(synonyms_per_class))


def check_names(names: Sequence[str]) -> None:
    """Refuse a vocabulary that is empty, holds an empty name or holds a name twice."""
    if not names:
        raise UserError("vocabulary", "is empty", "name at least one category")
    seen: set[str] = set()
    for position, name in enumerate(names, 1):
        if not all(part.strip() for part in name.split(",")):
            raise UserError(f"vocabulary, name {position}", f"{name!r} has an empty name", "remove it")
        if name in seen:
            raise UserError(f"vocabulary, name {position}", f'"{name}" is repeated', "remove one of them")
        seen.add(name)


def cached_text_classifier(
    folder: Path, tower_digest: str, tower: TextTower, names: Sequence[str], *, clean: bool = False
) -> TextClassifier:
    """Read the classifier of ``names`` from the cache ``folder``, or build it and store it there.

    The file's name is a digest of the model, ``weights_digest``, the vocabulary, the templates, ``clean``, and the
    hardware and versions. An unreadable file is rebuilt; where nothing can be written, nothing is kept.
    """
    device = next(tower.parameters()).device
    chosen = (tower.name, tower_digest, repr(tuple(names)), repr(PROMPT_TEMPLATES), repr(clean))
    key = "\n".join((*chosen, _computed_by(device)))
    path = folder / f"{hashlib.sha256(key.encode()).hexdigest()[:32]}.safetensors"
    # a cache entry that is broken, or a folder that is not ours, must not stop a run
    with suppress(SafetensorError, KeyError, OSError):
        if path.is_file():
            kept = load_file(path, device=str(device))
            return TextClassifier(kept["weights"], kept["class_of"])
    classifier = build_text_classifier(tower, names, clean=clean, device=device)
    with suppress(SafetensorError, OSError):
        _keep(path, classifier)
    return classifier


def tower_digest(tower: TextTower) -> str:
    """SHA-256 of the text tower's weights and activation, on which text embeddings depend."""
    digest = hashlib.sha256()
    for name, tensor in tower.clip_model.state_dict().items():
        if not name.startswith("visual."):
            digest.update(name.encode() + tensor.detach().cpu().contiguous().numpy().tobytes())
    activation = type(tower.clip_model.transformer.resblocks[0].mlp.gelu).__name__
    return digest.hexdigest() + activation


def _computed_by(device: torch.device) -> str:
    """Versions and hardware that change the last digits of embeddings: part of the key of the cache."""
    if device.type == "cuda":
        return f"torch {torch.__version__}, {torch.cuda.get_device_name(device)}"
    return f"torch {torch.__version__}, {torch.backends.cpu.get_cpu_capability()}, {torch.get_num_threads()} threads"


def _keep(path: Path, classifier: TextClassifier) -> None:
    """Write a cache entry atomically."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile(dir=path.parent, suffix=".part", delete=False) as file:
        temporary = Path(file.name)
    try:
        save_file({"weights": classifier.weights.cpu(), "class_of": classifier.class_of.cpu()}, temporary)
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


_BLANKS = str.maketrans("_()", "   ")


def frame_groups(frames: int, queries: int, classes: int) -> Iterator[slice]:
    """Split a window into as few groups of frames as `LOGITS_AT_ONCE` permits, with at least one frame each."""
    step = max(LOGITS_AT_ONCE // max(queries * classes, 1), 1)
    for start in range(0, frames, step):
        yield slice(start, min(start + step, frames))


def class_logits(features: Tensor, classifier: TextClassifier, logit_scale: Tensor | float) -> Tensor:
    """Scaled cosine of ``features`` ``(..., embed_dim)`` to each class's best synonym: ``(..., classes)``."""
    similarity = logit_scale * (functional.normalize(features, dim=-1) @ classifier.weights.T)
    if classifier.classes == classifier.weights.shape[0]:
        return similarity
    classes = classifier.class_of.expand(similarity.shape)
    start = similarity.new_full((*similarity.shape[:-1], classifier.classes), float("-inf"))
    return start.scatter_reduce(-1, classes, similarity, "amax")


def text_cache() -> Path:
    """Folder of cached text embeddings, in the user's cache."""
    return cache_folder("text")
