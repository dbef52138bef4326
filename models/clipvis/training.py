"""CLIP-VIS in training: CLIP stays frozen, the mask generator learns class-agnostic masks (CLIP-VIS, section 3.2)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from safetensors.torch import save
from torch import Tensor, nn

from harness.atomic_write import write_atomically
from harness.models.clipvis.checkpoint import load_network, pretrained_clip
from harness.models.clipvis.config import ClipVisConfig, ClipVisTrainingConfig
from harness.models.clipvis.network import ClipVisArchitecture, ClipVisNetwork
from harness.models.mask2former.mask_criterion import MaskCriterion
from harness.models.shared.checkpoint_files import CLIP_PREFIX, SHORT_EDGE
from harness.models.shared.training_batch import batch_of
from harness.training.types import TrainingSample


class ClipVisTrainee(nn.Module):
    """The network and its losses."""

    def __init__(self, network: ClipVisNetwork, config: ClipVisTrainingConfig) -> None:
        super().__init__()
        self.network, self.config = network, config
        self.criterion = MaskCriterion(config)

    def forward(self, samples: Sequence[TrainingSample]) -> dict[str, Tensor]:
        """Losses of a batch by name, and ``total``."""
        device = self.network.criterion.empty_object_weight.device
        images, masks = batch_of(samples, device)
        output, _ = self.network(images, auxiliary=True)
        losses = self.criterion(output, masks, self.network.criterion.empty_object_weight)
        return {**losses, "total": self.criterion.total(losses)}

    def rates(self) -> Mapping[str, float]:
        """Empty: CLIP is frozen, all other parameters learn at the same rate."""
        return {}

    def export(self, path: Path, facts: Mapping[str, str]) -> None:
        """Write the weights, CLIP's included, with the names of the released checkpoints."""
        half = self.config.weights == "fp16"
        state = {
            name: (t.half() if half and t.is_floating_point() else t).detach().cpu().contiguous()
            for name, t in self.network.state_dict().items()
        }
        write_atomically(path, save(state, {**facts, SHORT_EDGE: str(self.config.inference_short_edge)}))


def build_trainee(config: ClipVisTrainingConfig, device: str, checkpoint: Path | None) -> ClipVisTrainee:
    """The network to train: that of ``checkpoint`` if there is one, else a new one on CLIP's weights."""
    return ClipVisTrainee((load_network(checkpoint) if checkpoint else new_network(config)).to(device), config)


def new_network(config: ClipVisTrainingConfig) -> ClipVisNetwork:
    """An untrained mask generator on a trained CLIP; raises `UserError` if CLIP's weights cannot be loaded."""
    architecture = ClipVisArchitecture(
        clip_model=config.clip_model,
        decoder_layers=config.decoder_layers,
        queries=config.queries,
        dim=config.dim,
        heads=config.heads,
        feedforward=config.feedforward,
        encoder_layers=config.encoder_layers,
        encoder_feedforward=config.encoder_feedforward,
    )
    clip = ClipVisConfig(clip_model=config.clip_model, clip_pretrained=config.clip_pretrained)
    weights = pretrained_clip("a new CLIP-VIS", {}, clip)
    network = ClipVisNetwork(architecture)
    network.backbone.clip_model.load_state_dict({name.removeprefix(CLIP_PREFIX): t for name, t in weights.items()})
    return network
