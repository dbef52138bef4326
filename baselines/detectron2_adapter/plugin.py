"""The entry point ``detectron2``; fast to import: detectron2 and torch are imported when a model is loaded."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from harness.baselines.detectron2_adapter.config import Detectron2Config
from harness.types import LoadContext

if TYPE_CHECKING:
    from harness.baselines.detectron2_adapter.model import Detectron2Model


class Detectron2Plugin:
    """Any video model of detectron2, or of a project on top of it."""

    name = "detectron2"
    version = "2"
    summary = "Any config and weights of a detectron2 video model, where detectron2 is installed"
    Config = Detectron2Config
    card: ClassVar[dict[str, str]] = {
        "library": "https://github.com/facebookresearch/detectron2",
        "documentation": "docs/external-models.md",
        "paper": "see the project of the config, also for training data, published numbers and weights",
        "licence": "detectron2: Apache-2.0; project and weights: their own; this adapter: Apache-2.0",
        "speed": "not measured; `harness bench --model detectron2 --checkpoint FILE --set config_file=FILE`",
    }

    def load(self, config: Detectron2Config, context: LoadContext) -> Detectron2Model:
        """Build the model and load ``context.checkpoint``; raises `UserError` if either fails."""
        from harness.baselines.detectron2_adapter.model import load_detectron2_model

        return load_detectron2_model(config, context)

    def depends_on(self, config: Detectron2Config, checkpoint: Path | None) -> dict[str, Any]:
        """The merged config and the code behind it; a change of either makes another run."""
        from harness.baselines.detectron2_adapter.model import identity

        return identity(config)


PLUGIN = Detectron2Plugin()
