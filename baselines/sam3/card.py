"""Facts on SAM 3's released weights: training data, published numbers, and where to get them."""

from __future__ import annotations

from typing import Any

TABLE = "SAM 3 paper (arXiv 2511.16719), Table 4"
"""The source of the numbers, in the published results file."""


def card() -> dict[str, Any]:
    """The card, with the numbers of the published results file."""
    from harness.reports.published import results

    own = [row for row in results() if row.method == "SAM 3" and row.source.startswith(TABLE)]
    later = [row for row in results() if row.method == "SAM 3.1"]
    return {
        "paper": "SAM 3: Segment Anything with Concepts (Carion et al., 2025, arXiv 2511.16719)",
        "trained_on": own[0].training_data,
        "weights": "https://huggingface.co/facebook/sam3 (after agreeing to its licence), the files of the transformers"
        " format: *.json, *.txt, model.safetensors; give their folder to --checkpoint",
        "licence": "weights: SAM License, see there; the library transformers and this adapter: Apache-2.0",
        "published": "; ".join(f"{row.dataset} {row.split} {row.metric} {row.value}" for row in own),
        "published_source": own[0].citation,
        "published of SAM 3.1": "; ".join(f"{row.dataset} {row.split} {row.metric} {row.value}" for row in later)
        + f" ({later[0].citation}); this adapter does not run SAM 3.1",
        "note": "the paper's settings for these datasets are not known here: thresholds are the checkpoint's unless set"
        " (detection_threshold, new_object_threshold); LV-VIS is reported on test, whose truth is on the server only",
        "speed": "not measured with released weights; docs/sam3.md has the cost of a vocabulary",
    }
