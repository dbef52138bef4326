"""The plugin of OV2Seg. It is fast to import: the network's code is imported when the model is loaded."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.baselines.ov2seg.config import CLIP, Ov2SegConfig, Ov2SegTrainingConfig
from harness.errors import UserError
from harness.types import LoadContext, Vocabulary

if TYPE_CHECKING:
    from harness.baselines.ov2seg.model import Ov2Seg
    from harness.baselines.ov2seg.text_classifier import SourcedClassifier
    from harness.baselines.ov2seg.training import Ov2SegTrainee
    from harness.training.types import TrainingSet


class Ov2SegPlugin:
    """The entry point ``ov2seg``."""

    name = "ov2seg"
    version = "1"
    summary = "OV2Seg: open-vocabulary Mask2Former, queries tracked by a memory (Wang et al., ICCV 2023)"
    Config = Ov2SegConfig
    TrainingConfig = Ov2SegTrainingConfig

    @cached_property
    def card(self) -> dict[str, Any]:
        """Variants, published numbers, where to get weights and text classifiers."""
        from harness.baselines.ov2seg.card import card
        from harness.models import miniatures

        return {**card(), "shipped_miniature": miniatures.miniature_card("ov2seg")}

    def load(self, config: Ov2SegConfig, context: LoadContext) -> Ov2Seg:
        """Load ``context.checkpoint`` onto ``context.device``, and the text classifier of the dataset's vocabulary.

        Raises `UserError` without a checkpoint, and for a text classifier that does not fit or cannot be loaded.
        """
        import torch

        from harness.baselines.ov2seg.checkpoint import load_network
        from harness.baselines.ov2seg.model import Ov2Seg
        from harness.baselines.ov2seg.text_classifier import text_classifier
        from harness.models.shared.text_classifier import text_cache

        if context.checkpoint is None:
            raise UserError("ov2seg", "has no weights", "give its checkpoint, a file (`harness models show ov2seg`)")
        network = load_network(context.checkpoint)
        config = with_text_tower(config, context.checkpoint)
        embed_dim, device = network.embed_dim, torch.device(context.device)

        def classifier_of(vocabulary: Vocabulary) -> SourcedClassifier:
            return text_classifier(config, vocabulary, context.dataset.name, embed_dim, device, text_cache())

        model = Ov2Seg(network, classifier_of, config, context.device, context.precision)
        if context.dataset.annotations.pairs is None:
            model.text_classifier(context.dataset.vocabulary)  # what is wrong with it ends the run before it starts
        return model

    def depends_on(self, config: Ov2SegConfig, checkpoint: Path | None) -> dict[str, str]:
        """The digest of the text tower's weights if they are a file: the configured one, or the checkpoint's."""
        from harness.models.shared.identity import clip_file_digest

        if config.text_classifier != CLIP:
            return {}
        chosen = config if checkpoint is None else with_text_tower(config, checkpoint)
        return clip_file_digest(chosen.clip_pretrained)

    def shipped_weights(self, dataset: str) -> Path | None:
        """The miniature that comes with the package, for the dataset that it was trained for."""
        from harness.models import miniatures

        return miniatures.weights("ov2seg", dataset)

    def released_variant(self, checkpoint: Path) -> int | None:
        """The index in ``card["variants"]`` of the model with a checkpoint's backbone, or ``None``.

        Raises `UserError` for a file that is not a checkpoint of OV2Seg.
        """
        from harness.baselines.ov2seg.checkpoint import released_variant

        return released_variant(checkpoint)

    def training_defaults(self, dataset: str) -> Mapping[str, Any]:
        """The miniature's settings for the miniature's dataset."""
        from harness.models import miniatures

        return miniatures.settings("ov2seg", dataset)

    def trainee(
        self, config: Ov2SegTrainingConfig, training_set: TrainingSet, device: str, checkpoint: Path | None
    ) -> Ov2SegTrainee:
        """The network with its losses against the text embeddings of the set's categories."""
        from harness.baselines.ov2seg.training import build_trainee

        return build_trainee(config, training_set, device, checkpoint)

    def doctor(self) -> dict[str, Any]:
        """The implementation of deformable attention on this machine, which decides the speed."""
        from harness.models.ops.deform_attn import kernel_status

        return {"deformable attention": kernel_status()}


def with_text_tower(config: Ov2SegConfig, checkpoint: Path) -> Ov2SegConfig:
    """Use the text tower in the checkpoint's metadata, unless the user names one."""
    from harness.models.shared.checkpoint_files import metadata_of

    stated = metadata_of(checkpoint).get("text_tower")
    if stated is None or "clip_model" in config.model_fields_set:
        return config
    return config.model_copy(update={"clip_model": stated, "clip_pretrained": default_weights(stated)})


def default_weights(text_tower: str) -> str:
    """The source of a text tower's weights: the package for the miniature, else OpenAI."""
    from harness.models import miniatures
    from harness.models.miniatures.clip import CLIP_NAME

    shipped = miniatures.weights("clipvis", miniatures.DATASET) if text_tower == CLIP_NAME else None
    return str(shipped) if shipped else "openai"


PLUGIN = Ov2SegPlugin()
"""The plugin."""
