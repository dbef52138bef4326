"""The shared types of the harness: frozen, without torch."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeVar, runtime_checkable

from harness.frames import Frames, Image, read_ahead
from harness.masks import Rle

if TYPE_CHECKING:
    from pydantic import BaseModel

    from harness.formats.youtube_vis import Annotations, GroundTruth

Item = TypeVar("Item")


@dataclass(frozen=True, slots=True)
class Category:
    """A category of a vocabulary. ``groups`` are the subsets for averages: ``base``, ``novel``, ``common``, ..."""

    id: int
    name: str
    synonyms: tuple[str, ...] = ()
    groups: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Video:
    """One video: ``height`` and ``width`` in pixels, from the annotations, and its annotated frames."""

    id: int
    name: str
    height: int
    width: int
    frames: Frames

    def __repr__(self) -> str:
        return f"Video({self.id}, {self.name!r}, {self.width}x{self.height}, {len(self.frames)} frames)"

    def read(self, ahead: int = 4) -> Iterator[Image]:
        """Yield the frames in order, decoding at most ``ahead`` frames in the background."""
        return read_ahead(self.frames, ahead)


@dataclass(frozen=True, slots=True)
class Track:
    """One predicted object through one video.

    ``score`` is finite, larger is more confident; ``masks`` has one entry per frame of the video, ``None`` where the
    object is absent; every mask has the size of the video.
    """

    video_id: int
    category_id: int
    score: float
    masks: tuple[Rle | None, ...]

    def __repr__(self) -> str:
        seen = sum(mask is not None for mask in self.masks)
        where = f"video {self.video_id}, in {seen} of {len(self.masks)} frames"
        return f"Track(category {self.category_id}, score {self.score:.3f}, {where})"


@dataclass(frozen=True, slots=True)
class Vocabulary:
    """The ordered categories that a model looks for."""

    categories: tuple[Category, ...]

    def __repr__(self) -> str:
        names = ", ".join(category.name for category in self.categories[:4])
        return f"Vocabulary({len(self.categories)} categories: {names}{', ...' if len(self.categories) > 4 else ''})"

    @property
    def digest(self) -> str:
        """SHA-256 over ids, names and synonyms: the key of cached text embeddings."""
        text = "\n".join(f"{c.id}\t{c.name}\t{'|'.join(c.synonyms)}" for c in self.categories)
        return hashlib.sha256(text.encode()).hexdigest()


class _ShortTuple(tuple[Item, ...]):
    """A tuple whose repr has the number of its items and the first three."""

    __slots__ = ()

    def __repr__(self) -> str:
        if len(self) <= 3:
            return super().__repr__()
        return f"<{len(self)} items: {', '.join(map(repr, self[:3]))}, ...>"


@dataclass(frozen=True)
class Dataset:
    """A split of a dataset, ready to run.

    ``protocol`` names the scoring protocol. ``annotations`` is the parsed annotation file; it has no truth if only a
    server has it, and ``server`` then says where to submit: an address, or text that can follow "submit it to".
    ``differences`` are sentences on how the data differs from the split of published numbers: none for the whole
    split, ``None`` if the published size is unknown. ``no_truth`` says why there is no truth and no server. ``data``
    has the paths that were opened: ``data_root``, ``annotations``, ``frames``, ``file``.
    """

    name: str
    split: str
    categories: tuple[Category, ...]
    videos: tuple[Video, ...]
    protocol: str
    annotations: Annotations
    server: str | None = None
    differences: tuple[str, ...] | None = None
    no_truth: str = ""
    data: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        object.__setattr__(self, "categories", _ShortTuple(self.categories))
        object.__setattr__(self, "videos", _ShortTuple(self.videos))

    def __repr__(self) -> str:
        size = f"{len(self.videos)} videos, {len(self.categories)} categories"
        truth = "no truth" if self.truth is None else f"{len(self.truth.records)} annotated tracks"
        return f"Dataset({self.name} {self.split}: {size}, {truth}, protocol {self.protocol})"

    @property
    def truth(self) -> GroundTruth | None:
        """The annotated tracks, or ``None`` if they are withheld."""
        return self.annotations.truth

    @property
    def digest(self) -> str:
        """SHA-256 of the annotations: runs with the same digest have the same videos and truth."""
        return self.annotations.digest

    @property
    def vocabulary(self) -> Vocabulary:
        """All categories, in the order of the annotations."""
        return Vocabulary(self.categories)

    def vocabularies(self, video_id: int) -> tuple[Vocabulary, ...]:
        """The vocabularies of a video, with one prediction each: the whole one, or each phrase of the video alone.

        Phrases are those that the annotations list for the video (`Annotations.pairs`), absent ones included.
        """
        if self.annotations.pairs is None:
            return (self.vocabulary,)
        return self._phrases.get(video_id, ())

    @cached_property
    def _phrases(self) -> dict[int, tuple[Vocabulary, ...]]:
        """The phrases of each video, each as a vocabulary, by ascending category id."""
        alone = {category.id: Vocabulary((category,)) for category in self.categories}
        asked: dict[int, tuple[Vocabulary, ...]] = {}
        for video, category in sorted(set(self.annotations.pairs or ())):
            asked[video] = (*asked.get(video, ()), alone[category])
        return asked


@dataclass(frozen=True)
class LoadedWeights:
    """How a model's weights were loaded, in numbers of tensors.

    ``needed`` is how many it has, ``loaded`` how many of them came from a file; the others stay as the model makes
    them. ``unused`` are the names of the checkpoint's tensors that the model has no use for.
    """

    needed: int
    loaded: int
    unused: tuple[str, ...] = ()

    def __str__(self) -> str:
        share = f"{self.loaded} of {self.needed} tensors loaded ({100 * self.loaded / max(self.needed, 1):.4g} %)"
        if not self.unused:
            return share
        shown = ", ".join(self.unused[:3]) + (", ..." if len(self.unused) > 3 else "")
        return f"{share}; {len(self.unused)} of the checkpoint are unused ({shown})"


class Model(Protocol):
    """Anything that finds the tracks of a video.

    It may offer three members more. ``loaded_weights: LoadedWeights | None`` says how its weights were loaded:
    ``harness run --try`` shows it, and ``metrics.json`` records it. ``facts() -> Mapping[str, str]`` returns texts by
    name, which ``--try`` shows, after a video: ``words`` for the words that it has seen.
    ``expect(videos: Sequence[Video])`` is called before each attempt at a video, with that video and the one that
    probably follows it: their frames may be decoded in the background from then on, and ``predict`` may begin with the
    following one before it returns. What is not in the list is not expected any more; at the end of a run the list is
    empty.
    """

    def predict(self, video: Video, vocabulary: Vocabulary) -> Iterable[Track]:
        """Return the tracks of a video for a vocabulary; ids of categories are those of the vocabulary."""
        ...


@runtime_checkable
class BatchModel(Model, Protocol):
    """A model that works on several videos at once, and so needs the list of videos first."""

    def prepare(self, videos: Sequence[Video], scratch: Path) -> None:
        """Called once before the first `predict`, with the videos in the order in which they will be predicted.

        ``scratch`` is a folder of the run for the model's files; on the first start it does not exist yet. It survives
        a killed process: its files are from an earlier start of the same run. It is removed once all videos are done.
        """
        ...


@dataclass(frozen=True)
class LoadContext:
    """Everything that a model may need for loading. Only the oracle may read ``dataset.truth``."""

    dataset: Dataset
    device: str = "cpu"
    precision: str = "fp32"
    checkpoint: Path | None = None
    seed: int = 0


@runtime_checkable
class ModelPlugin(Protocol):
    """A model plugin, the object of an entry point in the group ``harness.models``.

    ``version`` changes whenever the same configuration may give other tracks; it is part of a run's identity.
    ``Config`` is a pydantic model (frozen, extra keys forbidden). A plugin with weights for some datasets may have
    ``shipped_weights(dataset_name) -> Path | None``: the default checkpoint. If its tracks depend on more than its
    configuration, the checkpoint and its code, it may have ``depends_on(config, checkpoint) -> Mapping[str, Any]``:
    JSON values that become part of a run's identity, such as digests of weights that it loads itself, but no paths. If
    its scores are a softmax over the vocabulary, it may have ``scores_are_relative(config) -> bool``: with a single
    word such a score does not show whether the object is present, and runs on phrases warn of that.

    A plugin may describe its released weights in ``card``, a dict with a list ``variants``. For `harness reproduce`
    each variant has ``published_as`` (labels of published results) and the plugin
    ``released_variant(checkpoint) -> int | None``: which variant a file is, by its content.
    """

    name: str
    version: str
    summary: str
    Config: type[BaseModel]

    def load(self, config: Any, context: LoadContext) -> Model:
        """Load the model; raises `UserError` for what the user has to change, such as missing weights."""
        ...


@runtime_checkable
class DatasetPlugin(Protocol):
    """A dataset plugin, the object of an entry point in the group ``harness.datasets``: its splits by name."""

    name: str
    summary: str
    splits: Sequence[str]
    default_split: str

    def open(self, data_root: Path, split: str) -> Dataset:
        """Open a split below ``data_root``; raises `UserError` where it is not found."""
        ...

    def check(self, data_root: Path, split: str | None = None) -> Any:
        """Return what a copy holds and lacks, of one split or of all; `harness datasets check` shows it."""
        ...
