"""The effects of quirks that docs/protocols.md states are measured here again."""

from __future__ import annotations

import re
from dataclasses import fields, replace
from pathlib import Path

import pytest

from harness.errors import UserError
from harness.formats.youtube_vis import read_annotations
from harness.scoring.burst_tasks import OFFICIAL_RULES, BurstRules, score_task
from harness.scoring.protocols import PROTOCOLS
from harness.scoring.quirks import Quirks
from harness.scoring.score import score_by_protocols

PAGE = (Path(__file__).parents[2] / "docs/protocols.md").read_text(encoding="utf-8")
ROWS = re.findall(r"^\| `(\w+)` \|(.*)\|$", PAGE, re.MULTILINE)
STATED = re.compile(r"`(\w+)` \(([\w-]+)\): (\w+) ([\d.]+), (?:without|were they to count as 0:) ([\d.]+)")
EFFECTS = [(flag, *found) for flag, row in ROWS for found in STATED.findall(row.rpartition("|")[2])]


def test_every_flag_has_a_measured_effect() -> None:
    for kind in (Quirks, BurstRules):
        flags = {field.name for field in fields(kind)}
        measured = {flag for flag, row in ROWS if re.search(r"`\w+` \([\w-]+\): ", row.rpartition("|")[2])}
        assert flags <= measured
    assert len(EFFECTS) >= 18


@pytest.mark.parametrize(("flag", "case", "protocol", "metric", "official", "without"), EFFECTS)
def test_an_effect_is_as_stated(
    golden: Path, flag: str, case: str, protocol: str, metric: str, official: str, without: str
) -> None:
    folder = golden / case
    if protocol in PROTOCOLS:
        chosen = PROTOCOLS[protocol]
        one_off = replace(chosen, name="one off", quirks=replace(chosen.quirks, **{flag: False}))
        truth = read_annotations(folder / "gt.json")
        found = [score_by_protocols([one], truth, folder / "results.json")[0] for one in (chosen, one_off)]
        values = [None if isinstance(one, UserError) else one.metrics.values[metric] for one in found]
    else:
        rules = (OFFICIAL_RULES, replace(OFFICIAL_RULES, **{flag: False}))
        files = (folder / "gt", folder / "predictions.json")
        values = [score_task(protocol, *files, one).metrics[metric] for one in rules]
    assert [f"{value:.3f}" for value in values if value is not None] == [official, without]
