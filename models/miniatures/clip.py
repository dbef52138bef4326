"""The miniature CLIP: timm's ConvNeXt and open_clip's text transformer at a tiny size.

The ConvNeXt has batch norms, an overlapping stem and small kernels, all options of timm: with layer norms and patches
it would need ten times the images to distinguish a star from a cross.

timm and open_clip list models by name; `declare` adds this one to both.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

CLIP_NAME = "convnext_shapes"
"""The name of the model in open_clip, and of its image tower in timm."""
DEPTHS, WIDTHS, KERNELS = (1, 2, 3, 2), (40, 64, 96, 192), (5, 5, 5, 3)
IMAGE_SIZE = 96
"""Height and width in pixels of the images it is trained on."""


def convnext_shapes(**settings: Any) -> Any:
    """Build the image tower: a ConvNeXt of a million parameters (the entry point that timm calls)."""
    from timm.models.convnext import _create_convnext

    size = {"input_size": (3, IMAGE_SIZE, IMAGE_SIZE), "pool_size": (3, 3)}
    facts = {"num_classes": 1000, **size, "first_conv": "stem.0", "classifier": "head.fc"}
    shape = {"depths": DEPTHS, "dims": WIDTHS, "kernel_sizes": KERNELS, "ls_init_value": 0.5}
    kind = {"stem_type": "overlap_act", "norm_layer": "batchnorm2d", "conv_mlp": True}
    return _create_convnext(CLIP_NAME, **{**settings, "pretrained": False, "pretrained_cfg": facts}, **shape, **kind)


def declare(open_clip: Any) -> None:
    """Register the miniature in timm and in ``open_clip`` (the imported package); may be repeated."""
    from timm.models import is_model, register_model

    if not is_model(CLIP_NAME):
        register_model(convnext_shapes)
        open_clip.add_model_config(Path(__file__).parent / f"{CLIP_NAME}.json")
