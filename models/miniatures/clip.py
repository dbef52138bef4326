"""The miniature CLIP: timm's ConvNeXt and open_clip's text transformer with small numbers.

timm and open_clip list models by name; `declare` adds this one to both, as a plugin of theirs would.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

NAME = "convnext_shapes"
"""Its name in open_clip, and of its image tower in timm."""
DEPTHS, WIDTHS = (2, 2, 4, 2), (24, 48, 96, 192)
IMAGE_SIZE = 128


def convnext_shapes(**settings: Any) -> Any:
    """Build the image tower: a ConvNeXt of 1.1 million parameters (the entry point that timm calls)."""
    from timm.models.convnext import _create_convnext

    shape = {"input_size": (3, IMAGE_SIZE, IMAGE_SIZE), "pool_size": (4, 4)}
    facts = {"num_classes": 1000, **shape, "first_conv": "stem.0", "classifier": "head.fc"}
    settings = {**settings, "pretrained": False, "pretrained_cfg": facts}
    return _create_convnext(NAME, depths=DEPTHS, dims=WIDTHS, **settings)


def declare(open_clip: Any) -> None:
    """Make the miniature known to timm and to ``open_clip`` (the imported package); harmless when repeated."""
    from timm.models import is_model, register_model

    if not is_model(NAME):
        register_model(convnext_shapes)
        open_clip.add_model_config(Path(__file__).parent / f"{NAME}.json")
