"""How much faster than an official tool: ``python -m official_ratio [--runs N] -- OURS -- OFFICIAL``.

OURS and OFFICIAL are command lines that score the same files; they run alternately on the same machine. Prints one line
of JSON: the smallest seconds and processor seconds and the largest memory of each, and the ratios. On a busy machine
use the ratio of processor seconds. The first run of each does not count: it compiles, and fills the file cache. For
example, with a checkout of TrackEval next to a workload of `burst_workload`:

    python -m official_ratio
        -- harness eval --protocol burst-class-guided --annotations W/gt --predictions W/predictions.json
        -- python TrackEval/scripts/run_burst.py --USE_PARALLEL False --GT_FOLDER W/gt --TRACKERS_FOLDER W/trackers
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from typing import NamedTuple


class Cost(NamedTuple):
    """Seconds of one process with its children, processor seconds of all its threads, and the most memory in MB."""

    seconds: float
    processor: float
    megabytes: float


def measured(command: list[str]) -> Cost:
    """Run a command and return its cost; raises `SystemExit` with its output if it fails."""
    begin = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    output = process.stdout.read() if process.stdout is not None else b""
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        sys.exit(f"{' '.join(command)}: exit code {process.returncode}\n{output[-2000:].decode(errors='replace')}")
    return Cost(time.perf_counter() - begin, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024)


def main(arguments: list[str]) -> None:
    """Measure both commands alternately, and print their costs and ratios."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=3, help="runs of each that count")
    places = [i for i, one in enumerate(arguments) if one == "--"]
    chosen = parser.parse_args(arguments[: places[0]] if places else arguments)
    if len(places) != 2:
        parser.error("give two commands, each behind --")
    commands = {"ours": arguments[places[0] + 1 : places[1]], "official": arguments[places[1] + 1 :]}
    costs: dict[str, list[Cost]] = {name: [] for name in commands}
    for run in range(chosen.runs + 1):
        for name, command in commands.items():
            cost = measured(command)
            if run:
                costs[name].append(cost)
    best = {
        name: {
            "seconds": round(min(c.seconds for c in found), 2),
            "processor_seconds": round(min(c.processor for c in found), 2),
            "MB": round(max(c.megabytes for c in found)),
        }
        for name, found in costs.items()
    }
    ratios = {
        f"{key}_ratio": round(best["official"][key] / best["ours"][key], 1) for key in ("seconds", "processor_seconds")
    }
    print(json.dumps({**best, **ratios, "cores": os.cpu_count()}))


if __name__ == "__main__":
    main(sys.argv[1:])
