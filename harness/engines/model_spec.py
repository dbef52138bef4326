"""The interface of engines, and `ModelSpec`, from which they load the model."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

from pydantic import BaseModel

from harness.engines.devices import refuse_missing_devices
from harness.engines.seeding import seed_everything
from harness.engines.threads import use_threads
from harness.errors import UserError
from harness.events import Event
from harness.plugin_code import convert_plugin_errors
from harness.run_folder.progress import RunProgress
from harness.run_folder.store import PredictionStore
from harness.types import LoadContext, Model, ModelPlugin, Video


def loaded(plugin: ModelPlugin, config: Any, context: LoadContext, host: str = "") -> Model:
    """Load a model, with seeded random numbers.

    ``host`` is named in messages. Raises `UserError` if the model does not load or its device is missing.
    """
    refuse_missing_devices([context.device])
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
    """All that is needed to load a model. If its parts can be pickled, other processes load the same model from it.

    ``threads`` is the number of CPU threads, on any machine. With ``whole_frames`` the digests that are stored with
    the tracks cover all content of the frames, see `harness.frame_digests`.
    """

    plugin: ModelPlugin
    config: BaseModel
    context: LoadContext
    threads: int = 1
    whole_frames: bool = False

    @property
    def name(self) -> str:
        """The model's name in messages."""
        return f"model {self.plugin.name}"

    def load(self, host: str = "") -> Model:
        """Load the model; see `loaded`."""
        with use_threads(self.threads):
            return loaded(self.plugin, self.config, self.context, host)

    def on(self, device: str) -> ModelSpec:
        """Return the spec of the same model on another device."""
        return replace(self, context=replace(self.context, device=device))


class Engine(Protocol):
    """Runs a model over videos."""

    def load(self) -> None:
        """Load the model, unless it is loaded; raises `UserError` if it does not load."""
        ...

    def run(self, videos: Sequence[Video], scratch: Path) -> Iterator[Event]:
        """Run the model over videos and store their tracks; yield the outcome of each, in any order.

        A video whose prediction fails is tried once more, unless the user has to fix something, and then left out.
        ``scratch`` is the folder that `BatchModel.prepare` gets. Raises `UserError` if the store cannot be written,
        and if the first videos all fail for the same reason, see `FirstFaults`.
        """
        ...

    def close(self) -> None:
        """Stop all that was started, immediately."""
        ...


class EngineMaker(Protocol):
    """Creates the engine of a run: it writes tracks to ``store`` and reports its workers to ``progress``."""

    def __call__(self, spec: ModelSpec, store: PredictionStore, progress: RunProgress, /) -> Engine: ...
