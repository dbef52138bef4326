"""Finished runs of the oracle over a small made dataset of the user's own, for tests of what compares runs."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any, NamedTuple

from workload import Workload, make

from harness.baselines.oracle import PLUGIN
from harness.datasets.youtube_vis_format import open_custom
from harness.runner import Run, execute

ODD = "$x_{1}$ <b>\\end{tabular}%"
"""What one of the categories is called."""


class Runs(NamedTuple):
    """Where the data lies, and the folders of runs by how they were made."""

    annotations: Path
    good: Path
    blurred: Path
    noisy: Path

    def copy(self, folder: Path) -> Runs:
        """The same in another folder, to be changed."""
        shutil.copytree(self.annotations.parent, folder / "copy")
        return Runs(*(folder / "copy" / path.relative_to(self.annotations.parent) for path in self))


def make_runs(folder: Path, videos: int = 10, protocols: tuple[str, ...] = ()) -> Runs:
    """Run the oracle as it is best, with eroded masks, and with random labels and scores; scored by ``protocols``."""
    small = Workload(videos=videos, frames=4, categories=5, truths=3, tracks=1, height=90, width=160)
    annotations, _ = make(folder, small, seed=2)
    annotations.write_text(annotations.read_text().replace('"c3"', '"' + ODD.replace("\\", "\\\\") + '"'))
    best = {"drop_tracks": 0, "erode_px": 0, "drop_frames": 0, "switch_identity": 0, "wrong_label": 0, "duplicate": 0}
    made = [
        run_oracle(folder, annotations, protocols=protocols, **best, score_noise=0),
        run_oracle(folder, annotations, protocols=protocols, **{**best, "erode_px": 2}, score_noise=0),
        run_oracle(folder, annotations, protocols=protocols, **{**best, "wrong_label": 0.2}, score_noise=0.5),
    ]
    return Runs(annotations, *made)


def run_oracle(
    folder: Path,
    annotations: Path,
    limit: int | None = None,
    seed: int = 0,
    protocols: tuple[str, ...] = (),
    **config: Any,
) -> Path:
    """Run the oracle; returns the folder of the run."""
    frames = folder / "frames"
    frames.mkdir(exist_ok=True)
    dataset = open_custom(annotations, frames, "lvvis")
    run = Run(PLUGIN, PLUGIN.Config(**config), dataset, folder / "runs", limit=limit, seed=seed, protocols=protocols)
    execute(run)
    return run.folder
