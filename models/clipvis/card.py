"""Model card of CLIP-VIS's released weights: variants, training data, published AP, and where to get them."""

from __future__ import annotations

from typing import Any

_DATASETS = ("LV-VIS val", "LV-VIS test", "OVIS val", "YouTube-VIS 2019 val", "YouTube-VIS 2021 val", "BURST val")


def _variant(backbone: str, training: str, layers: int, *published: float) -> dict[str, Any]:
    return {
        "backbone": backbone,
        "trained_on": training,
        "in_tables": [_AS[backbone], _AS[training]],
        "decoder_layers": layers,
        "published_as": [f"CLIP-VIS, {_AS[backbone]}, {_AS[training]}"],
        "published_ap": dict(zip(_DATASETS, published, strict=True)),
    }


RN50, _CONVNEXT = "CLIP RN50 (OpenAI)", "CLIP ConvNeXt-B (convnext_base_w_320, laion_aesthetic_s13b_b82k)"
LVIS, _YTVIS = "LVIS, base classes", "COCO, then YouTube-VIS 2019"
_AS = {RN50: "R50", _CONVNEXT: "ConvNeXt-B", LVIS: "LVIS", _YTVIS: "COCO+YTVIS19"}
"""Backbones and training data as the published results name them."""
VARIANT_SIZES = ((2048, 7), (1024, 7), (2048, 10), (1024, 10))
"""Of each variant: channels of the backbone's last feature, and ``decoder_layers``."""


def card() -> dict[str, Any]:
    """The card.

    ``decoder_layers`` counts predictions, as the official setting DEC_LAYERS does. ``published_as`` are the labels of
    the published results (`harness.reports.published.PublishedResult.label`) that are of this variant.
    """
    return {
        "paper": "CLIP-VIS: Adapting CLIP for Open-Vocabulary Video Instance Segmentation (Zhu et al., TCSVT 2024)",
        "weights": "https://github.com/zwq456/CLIP-VIS (results table in its README); give the file to --checkpoint",
        "published_ap_source": "README of zwq456/CLIP-VIS, current revision; percent, measured on 4 RTX 3090",
        "licence": "weights: see the licence in their repository; this implementation: Apache-2.0",
        "speed": "not measured with released weights; `harness bench --model clipvis --checkpoint FILE`",
        "note": "backbone, decoder depth and embedding size are inferred from the checkpoint; there is no setting for"
        " them",
        "variants": [
            _variant(RN50, LVIS, 7, 19.5, 14.6, 14.1, 32.2, 30.1, 5.2),
            _variant(_CONVNEXT, LVIS, 7, 32.2, 25.3, 18.5, 42.1, 37.9, 8.3),
            _variant(RN50, _YTVIS, 10, 9.4, 6.7, 15.8, 39.7, 35.7, 4.2),
            _variant(_CONVNEXT, _YTVIS, 10, 15.9, 12.0, 18.6, 50.0, 44.2, 5.0),
        ],
    }
