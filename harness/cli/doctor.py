"""``harness doctor``: what this machine offers, what the harness uses, and what does not work."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Annotated, Any

import typer

from harness.errors import EXIT_FAILED, UserError

_PACKAGES = (
    "torch", "open_clip_torch", "timm", "numpy", "numba", "pyarrow", "pandas", "pycocotools", "mlflow", "av",
    "cuda-core",
)  # fmt: skip


def doctor(as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False) -> None:
    """Check this installation; exit code 1 if something is broken.

    A missing GPU is not an error: everything also runs on a CPU; models are slow there.
    """
    record = examine()
    if as_json:
        print(json.dumps(record))
    else:
        _show(record)
    if record["faults"]:
        raise typer.Exit(EXIT_FAILED)


def examine() -> dict[str, Any]:
    """Machine, packages, devices, plugins with what they say of themselves, stores, and faults."""
    from importlib.metadata import PackageNotFoundError, version

    from harness import __version__, plugins
    from harness.plugin_code import convert_plugin_errors
    from harness.run_folder.provenance import environment
    from harness.tracking.credentials import safe_uri

    faults: list[str] = []
    machine = environment()
    packages: dict[str, str | None] = {}
    for name in _PACKAGES:
        try:
            packages[name] = version(name)
        except PackageNotFoundError:
            packages[name] = None
    models: dict[str, Any] = {}
    for name in plugins.names(plugins.MODEL_ENTRY_POINTS):
        try:
            plugin = plugins.model(name)
            with convert_plugin_errors(f"model {name}", "its doctor fails"):
                models[name] = plugin.doctor() if hasattr(plugin, "doctor") else {}
        except UserError as error:
            faults.append(str(error))
    for name in plugins.names(plugins.DATASET_ENTRY_POINTS):
        try:
            plugins.dataset(name)
        except UserError as error:
            faults.append(str(error))
    for name, facts in models.items():
        paths = {what: state for what, state in facts.items() if isinstance(state, dict)}
        faults += [f"{name}: {what}: {s['why']}" for what, s in paths.items() if s.get("path") == "none"]
    return {
        "harness": __version__,
        "python": machine["python"],
        "platform": machine["platform"],
        "cpu": machine["cpu"],
        "memory_bytes": machine["memory_bytes"],
        "free_disk_bytes": shutil.disk_usage(Path.cwd()).free,
        "devices": _devices(),
        "packages": packages,
        "models": models,
        "mlflow": safe_uri(os.environ.get("MLFLOW_TRACKING_URI", "")) or "embedded SQLite in the runs folder",
        "faults": faults,
    }


def _devices() -> dict[str, Any]:
    import torch

    gpus = (
        [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())] if torch.cuda.is_available() else []
    )
    return {"torch": torch.__version__, "cuda": torch.version.cuda, "gpus": gpus}


def _show(record: dict[str, Any]) -> None:
    cpu, devices = record["cpu"], record["devices"]
    print(f"harness  {record['harness']}, Python {record['python']}, {record['platform']}")
    print(f"machine  {cpu['model']}, {cpu['count']} cores, {(record['memory_bytes'] or 0) / 2**30:.0f} GiB memory,"
          f" {record['free_disk_bytes'] / 2**30:.0f} GiB free here")  # fmt: skip
    gpus = ", ".join(devices["gpus"]) or "none; models run on the CPU"
    print(f"devices  {gpus} (torch {devices['torch']}, built for CUDA {devices['cuda'] or 'none'})")
    if devices["gpus"]:
        print(
            "         a checkout checks and times its kernel and the models: python scripts/gpu_check.py --out FOLDER"
        )
    for name, facts in record["models"].items():
        for what, state in facts.items():
            shown = f"{state['path']} ({state['why']})" if isinstance(state, dict) else state
            print(f"{name}: {what}: {shown}")
    print(f"mlflow   {record['mlflow']}")
    for name, found in record["packages"].items():
        print(f"         {name} {found or 'not installed'}")
    for fault in record["faults"]:
        print(f"fault    {fault}")
    print("no faults" if not record["faults"] else f"{len(record['faults'])} faults")
