"""The plugin of CLIP-VIS. It is fast to import: the network's code is imported when the model is loaded."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.errors import UserError
from harness.models.clipvis.card import card
from harness.models.clipvis.config import ClipVisConfig, ClipVisTrainingConfig
from harness.models.shared.identity import clip_file_digest
from harness.types import LoadContext

if TYPE_CHECKING:
    from harness.models.clipvis.model import ClipVis
    from harness.models.clipvis.training import ClipVisTrainee
    from harness.training.types import TrainingSet


class ClipVisPlugin:
    """The entry point ``clipvis``."""

    name = "clipvis"
    version = "1"
    summary = "CLIP-VIS: a frozen CLIP, class-agnostic masks, topK-enhanced query matching (Zhu et al., TCSVT 2024)"
    Config = ClipVisConfig
    TrainingConfig = ClipVisTrainingConfig

    @cached_property
    def card(self) -> dict[str, Any]:
        """Released variants with published numbers, and the miniature that comes with the package."""
        from harness.models import miniatures

        return {**card(), "shipped_miniature": miniatures.miniature_card("clipvis")}

    def load(self, config: ClipVisConfig, context: LoadContext) -> ClipVis:
        """Load ``context.checkpoint`` onto ``context.device``; raises `UserError` without a checkpoint."""
        from harness.models.clipvis.checkpoint import load_network
        from harness.models.clipvis.model import ClipVis
        from harness.models.shared.text_classifier import text_cache

        if context.checkpoint is None:
            raise UserError("clipvis", "has no weights", "give its checkpoint, a file (`harness models show clipvis`)")
        network = load_network(context.checkpoint, config)
        return ClipVis(network, config, context.device, context.precision, text_cache())

    def depends_on(self, config: ClipVisConfig, checkpoint: Path | None) -> dict[str, str]:
        """The digest of a local file of CLIP weights; a tag of open_clip identifies its weights by itself."""
        return clip_file_digest(config.clip_pretrained)

    def scores_are_relative(self, config: ClipVisConfig) -> bool:
        """True: class scores are a softmax over the vocabulary."""
        return True

    def shipped_weights(self, dataset: str) -> Path | None:
        """The miniature that comes with the package, for the dataset that it was trained for."""
        from harness.models import miniatures

        return miniatures.weights("clipvis", dataset)

    def released_variant(self, checkpoint: Path) -> int | None:
        """The index in ``card["variants"]`` of the released model with a checkpoint's sizes, or ``None``.

        Raises `UserError` for a file that is not a checkpoint of CLIP-VIS.
        """
        from harness.models.clipvis.checkpoint import released_variant

        return released_variant(checkpoint)

    def training_defaults(self, dataset: str) -> Mapping[str, Any]:
        """Nine decoder layers for COCO, as published; the miniature's settings for the miniature's dataset."""
        from harness.models import miniatures

        return {"decoder_layers": 9} if dataset == "coco" else miniatures.settings("clipvis", dataset)

    def trainee(
        self, config: ClipVisTrainingConfig, training_set: TrainingSet, device: str, checkpoint: Path | None
    ) -> ClipVisTrainee:
        """The network with its losses; training is class-agnostic, so the set's categories are not used."""
        from harness.models.clipvis.training import build_trainee

        return build_trainee(config, device, checkpoint)

    def doctor(self) -> dict[str, Any]:
        """The implementation of deformable attention on this machine, which decides the speed."""
        from harness.models.ops.deform_attn import kernel_status

        return {"deformable attention": kernel_status()}


PLUGIN = ClipVisPlugin()
