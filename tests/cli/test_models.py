"""``harness models``: which models there are, and what is told of one.

Tests of `models/clipvis/card.py`.
"""

from __future__ import annotations

import json

from typer.testing import CliRunner

from harness.cli.main import build


def test_show_lists_variants_published_numbers_and_keys() -> None:
    record = json.loads(CliRunner().invoke(build(), ["models", "show", "clipvis", "--json"]).stdout)
    best = record["card"]["variants"][1]
    assert best["published_ap"]["LV-VIS val"] == 32.2
    assert best["decoder_layers"] == 7
    assert {"short_edge", "window", "memory_length", "topk", "detections_per_video"} <= set(record["config"])
    assert all(key["description"] for key in record["config"].values())
    shown = CliRunner().invoke(build(), ["models", "show", "clipvis"]).stdout
    assert "32.2" in shown
    assert "github.com/zwq456/CLIP-VIS" in shown
