"""The run that fault tests disturb as a command of its own, and what it may take until it has come to its end."""

from __future__ import annotations

import sys

# Masks grown by many steps take a while, so that most faults meet a run in the middle of its videos.
COMMAND = [
    *(sys.executable, "-c", "from harness.cli.main import main; main()"),
    *("run", "--model", "oracle", "--dataset", "shapes", "--set", "erode_px=-24", "--set", "score_noise=1"),
    *("--no-mlflow", "--json", "--device", "cpu", "--runs-dir"),
]
"""The folder of the runs is to follow."""
LAUNCHES = 20
"""Without a fault left to give, a launch ends well: more than a few means that runs do not go on."""
