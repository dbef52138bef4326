"""A cluster of several Ray nodes on this machine that loses one in the middle of a run: ``python lost_node.py FOLDER``.

It is a program of its own because a process takes Ray's token from its environment once and for all. It prints what
became of the run as JSON.
"""

from __future__ import annotations

import json
import sys
from functools import partial
from pathlib import Path

import ray
from ray.cluster_utils import Cluster
from worker_runs import faulty_run

from harness.engines.ray import ray_pool
from harness.events import Event
from harness.runner import execute

VIDEOS = 8


def run_and_lose_a_node(folder: Path) -> dict[str, object]:
    """Run on two nodes with one worker each, and end one of them after the second video."""
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False})
    for _ in range(2):
        cluster.add_node(num_cpus=1)
    kinds: list[str] = []

    def lose_a_node(event: Event) -> None:
        kinds.append(event.kind)
        if len(kinds) == 2:
            near = ray.get_runtime_context().get_node_id()  # the one that this process talks to: Ray keeps it
            cluster.remove_node(next(n for n in cluster.worker_nodes if n.node_id != near), allow_graceful=False)
            cluster.add_node(num_cpus=1)  # as an autoscaler would

    run = faulty_run(folder, VIDEOS, seconds=0.2)
    made = partial(ray_pool, workers=2, address=cluster.address)
    outcome = execute(run, on_event=lose_a_node, engine=made)
    ray.shutdown()
    cluster.shutdown()
    return {"exit_code": outcome.exit_code, "kinds": kinds}


if __name__ == "__main__":
    print(json.dumps(run_and_lose_a_node(Path(sys.argv[1]))))
