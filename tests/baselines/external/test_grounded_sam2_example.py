"""examples/wrap_grounded_sam2.py as `harness run` starts it, with stand-ins for SAM 2 and Grounding DINO.

They have the interfaces that the script calls: words are found by colour, and a box is tracked by the colour in it.
"""

from __future__ import annotations

import shlex
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
from detectron2_library import HEIGHT, VIDEO, WIDTH, WORDS, Balls, pixels
from small_runs import make_dataset

from harness.baselines.external.config import ExternalConfig
from harness.baselines.external.model import ExternalModel
from harness.types import LoadContext

SCRIPT = Path(__file__).parents[3] / "examples/wrap_grounded_sam2.py"
STAND_INS = Path(__file__).parents[2] / "data/grounded_sam2_stand_in"


def test_words_become_tracks(tmp_path: Path) -> None:
    weights = tmp_path / "sam2.pt"
    weights.write_bytes(b"not read")
    run = f"import sys, runpy; sys.path.insert(0, {str(STAND_INS)!r}); runpy.run_path({str(SCRIPT)!r})"
    config = ExternalConfig.model_validate(
        {"command": shlex.join([sys.executable, "-c", run]), "environment": {"DETECTOR": "small"}}
    )
    dataset = replace(make_dataset(), categories=WORDS.categories)
    model = ExternalModel(config, LoadContext(dataset, checkpoint=weights))
    red, blue = model.predict(VIDEO, WORDS)
    assert [(t.category_id, t.score) for t in (red, blue)] == [(4, 0.75), (9, 0.75)]
    for track, channel in ((red, 0), (blue, 2)):
        for index, mask in enumerate(pixels(track)):
            assert mask.shape == (HEIGHT, WIDTH)
            assert np.array_equal(mask, Balls()[index][:, :, channel] == 220)
    loaded = model.loaded_weights
    assert loaded is not None
    assert (loaded.needed, loaded.loaded, loaded.unused) == (3, 2, ("extra",))
    assert model.facts()["words"] == "3 in the job; 3, each a prompt of Grounding DINO"
