"""Run folders of the oracle, and a name that would break a page that believes it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from harness.baselines.oracle import PLUGIN as ORACLE
from harness.reports.tables import table_of_run
from harness.runner import Run, execute
from harness.types import Dataset

HOSTILE = "</script><script>alert(1)</script><!--\u2028'\"&"


def oracle_run(runs_dir: Path, dataset: Dataset, limit: int | None = None, **dials: Any) -> Path:
    """Run the oracle; return the run's folder."""
    run = Run(ORACLE, ORACLE.Config(**dials), dataset, runs_dir, limit=limit)
    execute(run, table=table_of_run)
    return run.folder
