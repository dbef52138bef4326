"""What every engine gets and does: the recipe of a model, and a way through the videos of a run."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

from pydantic import BaseModel

from harness.engines.local import Event, seed_chance
from harness.engines.progress import Progress
from harness.engines.threads import loading_with
from harness.store import PredictionStore
from harness.types import LoadContext, Model, ModelPlugin, Video


@dataclass(frozen=True)
class Recipe:
    """How a model is loaded. Where its parts can be pickled, other processes load the same model from it.

    ``threads`` is how many it computes with on the processor, wherever that is. With ``whole_frames`` all content of
    the frames is noted with the tracks, see `harness.frame_digests`.
    """

    plugin: ModelPlugin
    config: BaseModel
    context: LoadContext
    threads: int = 1
    whole_frames: bool = False

    def load(self) -> Model:
        """Load the model; raises what the plugin raises, `UserError` for a user's mistake."""
        with loading_with(self.threads):
            seed_chance(self.context.seed)
            return self.plugin.load(self.config, self.context)

    def on(self, device: str) -> Recipe:
        """The same model on another device."""
        return replace(self, context=replace(self.context, device=device))


class Engine(Protocol):
    """Who runs a model over videos."""

    def load(self) -> None:
        """Load the model, unless it is loaded; raises `UserError` where it does not load."""
        ...

    def run(self, videos: Sequence[Video], scratch: Path) -> Iterator[Event]:
        """Run the model over videos and store their tracks; yield what became of each, in any order.

        A video whose prediction fails is tried once more and then left out. A store that cannot be written raises
        `UserError`: nothing that follows could be kept either. ``scratch`` is what a `ForesightedModel` gets.
        """
        ...

    def close(self) -> None:
        """End at once whatever was started."""
        ...


class EngineMaker(Protocol):
    """Makes the engine of a run: its tracks go to ``store``, ``progress`` is told what its workers do."""

    def __call__(self, recipe: Recipe, store: PredictionStore, progress: Progress, /) -> Engine: ...
