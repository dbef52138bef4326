"""Model card of track-by-detection baselines: papers and published AP."""

from __future__ import annotations

from typing import Any

METHODS = ("Detic + SORT", "Detic + XMem")


def card() -> dict[str, Any]:
    """The card, with the numbers of the published results file."""
    return {
        "papers": "baselines of this kind: Towards Open-Vocabulary Video Instance Segmentation (Wang et al., ICCV"
        " 2023); SORT: Simple Online and Realtime Tracking (Bewley et al., ICIP 2016); embedding: MinVIS (Huang et al.,"
        " NeurIPS 2022)",
        "weights": "those of the segmenter (`harness models show clipvis`, `harness models show ov2seg`); give the file"
        " to --checkpoint",
        "licence": "this implementation: Apache-2.0; weights: that of the segmenter's repository",
        "published": "; ".join(_published()),
        "note": "the published rows use another segmenter, so do not compare with them; a track's label is the category"
        " with the highest mean score over its frames, its score is that mean",
        "speed": "not measured with released weights; `harness bench --model track-by-detection --checkpoint FILE`",
    }


def _published() -> list[str]:
    """One line per published method of this kind."""
    from harness.reports.published import results

    lines = []
    for method in METHODS:
        rows = [row for row in results() if row.method == method]
        numbers = ", ".join(f"{row.metric} {row.value}" for row in rows)
        lines.append(f"{method}: {rows[0].dataset} {numbers} ({rows[0].citation})")
    return lines
