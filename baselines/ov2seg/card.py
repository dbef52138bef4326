"""Model card of OV2Seg's released weights: variants, training data, published AP, and where to get them."""

from __future__ import annotations

from typing import Any

_DATASETS = {
    ("LV-VIS", "val"): "LV-VIS val",
    ("LV-VIS", "test"): "LV-VIS test",
    ("OVIS", "val"): "OVIS val",
    ("YTVIS19", "val"): "YouTube-VIS 2019 val",
    ("YTVIS21", "val"): "YouTube-VIS 2021 val",
}
"""Datasets of the published results file, and their names in a card."""


def card() -> dict[str, Any]:
    """The card, with the numbers of the published results file."""
    return {
        "paper": "Towards Open-Vocabulary Video Instance Segmentation (Wang et al., ICCV 2023, arXiv 2304.01715)",
        "weights": "https://github.com/haochenheheda/LVVIS (Baseline.md); give the file to --checkpoint",
        "text classifiers": "in the same repository, under its dataset metadata: fg_bg_5_10_*_ens.npy for LV-VIS, LVIS,"
        " COCO, YouTube-VIS 2019 and 2021 and OVIS, none for BURST; --set text_classifier=FILE_OR_FOLDER",
        "licence": "weights and classifiers: see their repository; this implementation: Apache-2.0",
        "published_ap_source": "Baseline.md of haochenheheda/LVVIS; APb and APn: GLEE paper, Table 2; percent",
        "note": "the published numbers need the released text classifiers; backbone, depth and sizes are inferred"
        " from the checkpoint; for Swin-B neither weights nor a configuration were released",
        "speed": "not measured with released weights; `harness bench --model ov2seg --checkpoint FILE`",
        "variants": [_variant("R50", "ResNet-50 (ImageNet-21k)", "yes"), _variant("Swin-B", "Swin-B (22k)", "no")],
    }


def _variant(backbone: str, described: str, released: str) -> dict[str, Any]:
    from harness.reports.published import results

    own = [row for row in results() if row.method == "OV2Seg" and row.backbone == backbone]
    ap = {(r.dataset, r.split): r.value for r in own if r.metric == "AP" and r.source_kind == "repo"}
    groups = {r.metric: r.value for r in own if r.dataset == "LV-VIS" and r.source.startswith("GLEE")}
    return {
        "backbone": described,
        "trained_on": "LVIS without its rare classes",
        "in_tables": [backbone, "LVIS (no rare)"],
        "weights_released": released,
        "decoder_layers": 7,
        "published_as": [f"OV2Seg, {backbone}, {training}" for training in ("LVIS (no rare)", "images only (LVIS)")],
        "lvvis_val_APb_APn": f"{groups['APb']}, {groups['APn']}",
        "published_ap": {name: ap[key] for key, name in _DATASETS.items()},
    }
