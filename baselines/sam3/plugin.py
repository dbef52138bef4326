"""SAM 3 as a plugin of the harness; fast to import: `transformers` and torch are imported on loading."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING, Any

from harness.baselines.sam3.config import Sam3Config
from harness.errors import UserError
from harness.types import LoadContext

if TYPE_CHECKING:
    from harness.baselines.sam3.model import Sam3


class Sam3Plugin:
    """The entry point ``sam3``."""

    name = "sam3"
    version = "1"
    summary = "SAM 3: every word a text prompt, its own tracker (Meta, 2025); needs the extra sam3"
    Config = Sam3Config

    @cached_property
    def card(self) -> dict[str, Any]:
        """Paper, published numbers, where to get weights."""
        from harness.baselines.sam3.card import card

        return card()

    def load(self, config: Sam3Config, context: LoadContext) -> Sam3:
        """Load the folder ``context.checkpoint`` onto ``context.device``.

        Raises `UserError` where `transformers` is missing or too old, and for a folder without SAM 3.
        """
        from harness.baselines.sam3.library import check_folder, library, load_part, load_processor

        transformers = library()
        if context.checkpoint is None:
            raise UserError("sam3", "has no weights", "give its checkpoint, a folder (`harness models show sam3`)")
        check_folder(context.checkpoint)
        from harness.baselines.sam3.model import Sam3
        from harness.baselines.sam3.network import StreamedSam3

        network, loaded = load_part(StreamedSam3, context.checkpoint)
        processor = load_processor(transformers.Sam3VideoProcessor, context.checkpoint)
        model = Sam3(network, processor, config, context.device, context.precision)
        model.loaded_weights = loaded
        return model

    def doctor(self) -> dict[str, Any]:
        """Whether the library that it needs is installed."""
        from importlib.metadata import PackageNotFoundError, version

        from harness.baselines.sam3.library import SAM3_INSTALL

        try:
            return {"transformers": version("transformers")}
        except PackageNotFoundError:
            return {"transformers": f"not installed ({SAM3_INSTALL})"}


PLUGIN = Sam3Plugin()
"""The plugin."""
