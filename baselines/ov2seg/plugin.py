"""OV2Seg as a plugin of the harness; light to import, the network's code is imported when it is loaded."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING, Any

from harness.baselines.ov2seg.config import Ov2SegConfig
from harness.errors import UserError
from harness.types import LoadContext, Vocabulary

if TYPE_CHECKING:
    from harness.baselines.ov2seg.model import Ov2Seg
    from harness.baselines.ov2seg.text_classifier import SourcedClassifier


class Ov2SegPlugin:
    """The entry point ``ov2seg``."""

    name = "ov2seg"
    version = "1"
    summary = "OV2Seg: open-vocabulary Mask2Former, queries tracked by a memory (Wang et al., ICCV 2023)"
    Config = Ov2SegConfig

    @cached_property
    def card(self) -> dict[str, Any]:
        """Variants, published numbers, where to get weights and text classifiers."""
        from harness.baselines.ov2seg.card import card

        return card()

    def load(self, config: Ov2SegConfig, context: LoadContext) -> Ov2Seg:
        """Load ``context.checkpoint`` onto ``context.device``, and the text classifier of the dataset's vocabulary.

        Raises `UserError` without a checkpoint, and for a text classifier that does not fit or cannot be had.
        """
        import torch

        from harness.baselines.ov2seg.checkpoint import load_network
        from harness.baselines.ov2seg.model import Ov2Seg
        from harness.baselines.ov2seg.text_classifier import text_classifier
        from harness.models.clipvis.plugin import text_cache

        if context.checkpoint is None:
            raise UserError("ov2seg", "has no weights", "give --checkpoint FILE (`harness models show ov2seg`)")
        network = load_network(context.checkpoint)
        embed_dim, device = network.embed_dim, torch.device(context.device)

        def classifier_of(vocabulary: Vocabulary) -> SourcedClassifier:
            return text_classifier(config, vocabulary, context.dataset.name, embed_dim, device, text_cache())

        model = Ov2Seg(network, classifier_of, config, context.device, context.precision)
        model.text_classifier(context.dataset.vocabulary)  # what is wrong with it ends the run before it starts
        return model

    def doctor(self) -> dict[str, Any]:
        """What decides how fast it runs on this machine: the path that deformable attention takes."""
        from harness.models.ops.deform_attn import status

        return {"deformable attention": status()}


PLUGIN = Ov2SegPlugin()
"""The plugin."""
