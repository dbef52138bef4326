"""What every engine gets and does: the spec of a model, and a way through the videos of a run."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

from pydantic import BaseModel

from harness.engines.devices import refuse_missing
from harness.engines.seeding import seed_everything
from harness.engines.threads import use_threads
from harness.errors import UserError
from harness.events import Event
from harness.plugin_code import convert_plugin_errors
from harness.run_folder.progress import RunProgress
from harness.run_folder.store import PredictionStore
from harness.types import LoadContext, Model, ModelPlugin, Video


def loaded(plugin: ModelPlugin, config: Any, context: LoadContext, host: str = "") -> Model:
    """Load a model, with seeded random numbers; raises `UserError` where it does not load, or its device is not there.

    ``host`` is named in messages.
    """
    refuse_missing([context.device])
    where = f"model {plugin.name} on {context.device}" + (f" of {host}" if host else "")
    with convert_plugin_errors(where, "does not load"):
        seed_everything(context.seed)
        model = plugin.load(config, context)
        if not callable(getattr(model, "predict", None)):
            raise UserError(
                where, f"its load gives a {type(model).__name__}, which has no predict", "correct the plugin"
            )
    return model


@dataclass(frozen=True)
class ModelSpec:
    """How a model is loaded. Where its parts can be pickled, other processes load the same model from it.

    ``threads`` is how many it computes with on the processor, wherever that is. With ``whole_frames`` all content of
    the frames is noted with the tracks, see `harness.frame_digests`.
    """

    plugin: ModelPlugin
    config: BaseModel
    context: LoadContext
    threads: int = 1
    whole_frames: bool = False

    @property
    def name(self) -> str:
        """What messages call the model."""
        return f"model {self.plugin.name}"

    def load(self, host: str = "") -> Model:
        """Load the model; see `loaded`."""
        with use_threads(self.threads):
            return loaded(self.plugin, self.config, self.context, host)

    def on(self, device: str) -> ModelSpec:
        """The same model on another device."""
        return replace(self, context=replace(self.context, device=device))


class Engine(Protocol):
    """Who runs a model over videos."""

    def load(self) -> None:
        """Load the model, unless it is loaded; raises `UserError` where it does not load."""
        ...

    def run(self, videos: Sequence[Video], scratch: Path) -> Iterator[Event]:
        """Run the model over videos and store their tracks; yield what became of each, in any order.

        A video whose prediction fails is tried once more, unless the user has to fix something, and then left out. A
        store that cannot be written raises `UserError`: nothing that follows could be kept either; so does the same
        fault of the user's on the first videos, see `FirstFaults`. ``scratch`` is what a `BatchModel` gets.
        """
        ...

    def close(self) -> None:
        """End at once whatever was started."""
        ...


class EngineMaker(Protocol):
    """Makes the engine of a run: its tracks go to ``store``, ``progress`` is told what its workers do."""

    def __call__(self, spec: ModelSpec, store: PredictionStore, progress: RunProgress, /) -> Engine: ...
