"""``harness models``: the list of models, and the description of one.

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


def test_list_names_the_installed_models() -> None:
    listed = json.loads(CliRunner().invoke(build(), ["models", "list", "--json"]).stdout)["models"]
    assert {"clipvis", "ov2seg", "oracle", "external"} <= {one["name"] for one in listed}
    assert all(one["summary"] for one in listed)
    shown = CliRunner().invoke(build(), ["models", "list"]).stdout
    assert all(one["name"] in shown for one in listed)


def test_an_unknown_model_is_refused_with_the_nearest_name() -> None:
    error = CliRunner().invoke(build(), ["models", "show", "clipvid"]).exception
    assert str(error).startswith('model "clipvid": is not installed; did you mean "clipvis"?')
