"""Tries the oldest, a middle and the newest versions that the package allows: imports, NVRTC, CPU tests of models/ops.

    python scripts/check_versions.py                                  # all rows, one after the other
    python scripts/check_versions.py --row oldest --row "torch 2.11"  # some of them
    python scripts/check_versions.py --out benchmarks/results/versions.json --torch-backend cpu

Each row of `ROWS` is a new virtual environment in a scratch folder, made by ``uv`` (``pip install uv``) and deleted
before the next one. The script imports every module of the harness in it, compiles the CUDA kernel for every
architecture that the row's NVRTC supports, and runs ``tests/models/ops`` on the CPU. A row whose interpreter or
packages cannot be installed is listed as not run, with the reason. With PyTorch's CUDA builds, the default on Linux, a
row downloads about 3 GB and needs 8 GB of disk; ``--torch-backend cpu`` installs the CPU builds, if PyTorch's package
index can be reached. If the variable ``UV_CACHE_DIR`` is set, the downloads stay there, and several rows share them.
The script prints a table and writes it to ``--out`` as JSON, and next to it as Markdown. Exit
code 1 if a row that ran has an error.

The public workflow (``.github/workflows/tests.yml``) runs the whole test suite on the same rows.
"""

from __future__ import annotations

import argparse
import json
import os
import pkgutil
import platform
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

ROOT = Path(__file__).parents[1]
TESTS = ("pytest>=8", "pytest-benchmark>=5", "hypothesis>=6.100")
"""What the tests of ``models/ops`` need besides the package and its extra ``cuda``."""
SECONDS = 1800
"""Time limit for the installation of a row, and for its tests."""
SHOWN = ("python", "torch", "numpy", "pandas", "numba", "nvrtc", "cuda-core", "cuda-bindings")
OPTIONAL = frozenset({"ray", "transformers", "detectron2", "label_studio_sdk", "fiftyone", "fsspec", "playwright"})
"""Optional packages: importing a module of the harness may fail without them."""


class Row(NamedTuple):
    """One environment."""

    name: str
    python: str
    """Version of Python, for example ``3.11``."""
    resolution: str
    """uv's ``--resolution``; ``lowest-direct``: the oldest direct dependencies that ``pyproject.toml`` allows."""
    pins: tuple[str, ...] = ()
    """Requirements in addition to the package's."""


NVRTC_12 = ("cuda-bindings==12.9.*", "nvidia-cuda-nvrtc-cu12==12.8.*")
ROWS = (
    Row("oldest", "3.11", "lowest-direct", NVRTC_12),
    Row("torch 2.11", "3.12", "highest", ("torch==2.11.*",)),
    Row("newest, Python 3.11", "3.11", "highest"),
    Row("newest, Python 3.12", "3.12", "highest"),
    Row("newest, Python 3.13", "3.13", "highest"),
)


@dataclass(frozen=True)
class Outcome:
    """The results of a row."""

    row: Row
    not_run: str = ""
    """Why it was not run."""
    versions: tuple[tuple[str, str], ...] = ()
    imported: int = 0
    """Number of modules of the harness that were imported."""
    absent: tuple[str, ...] = ()
    """Modules that were not imported because a package of `OPTIONAL` is not installed."""
    compiled: int = 0
    """Number of compiled kernels: variants times architectures."""
    architectures: tuple[int, ...] = ()
    tests: str = ""
    """pytest's last line."""
    faults: tuple[str, ...] = ()
    seconds: float = 0.0


def main() -> int:
    """Run the rows that the command line names; return the exit code."""
    asked = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    asked.add_argument("--row", action="append", choices=[row.name for row in ROWS], help="only this; may be repeated")
    asked.add_argument("--out", type=Path, metavar="FILE.json", help="where the table is kept, also as FILE.md")
    asked.add_argument("--scratch", type=Path, help="folder for the environments and uv's downloads")
    asked.add_argument("--torch-backend", help="uv's: cpu, auto, cu128, ...")
    given = asked.parse_args()
    if shutil.which("uv") is None:
        print("check_versions: uv is not installed: pip install uv", file=sys.stderr)
        return 2
    rows = [row for row in ROWS if given.row is None or row.name in given.row]
    outcomes = []
    for row in rows:
        with tempfile.TemporaryDirectory(prefix="check-versions-", dir=given.scratch) as folder:
            outcomes.append(outcome_of(row, Path(folder), given.torch_backend))
        print(table(outcomes[-1:]), flush=True)
        if given.out is not None:
            write(outcomes, given.out)
    print(table(outcomes))
    return 1 if any(each.faults for each in outcomes) else 0


def outcome_of(row: Row, folder: Path, torch_backend: str | None) -> Outcome:
    """Make the row's environment in ``folder`` and test it; uv's downloads are there too, because they are as large."""
    began = time.monotonic()
    python, surroundings = folder / "env/bin/python", {"UV_CACHE_DIR": str(folder / "uv")} | os.environ
    backend = ["--torch-backend", torch_backend] if torch_backend else []
    install = ["uv", "pip", "install", "--python", python, "--resolution", row.resolution, *backend]
    for command in (
        ["uv", "venv", "--python", row.python, folder / "env"],
        [*install, "-e", f"{ROOT}[cuda]", *TESTS, *row.pins],
    ):
        fault = fault_of(command, surroundings)
        if fault:
            return Outcome(row, not_run=fault, seconds=time.monotonic() - began)
    inside = surroundings | {"XDG_CACHE_HOME": str(folder / "cache"), "PYTHONPATH": ""}
    tried = run([python, Path(__file__).resolve(), "--inside"], inside, ROOT)
    if tried.returncode:
        return Outcome(row, faults=(last_line(tried.stderr),), seconds=time.monotonic() - began)
    found = json.loads(tried.stdout.splitlines()[-1])
    tested = run([python, "-m", "pytest", "-q", "-p", "no:cacheprovider", "tests/models/ops"], inside, ROOT)
    faults = [*found["faults"], *(line for line in tested.stdout.splitlines() if line.startswith(("FAILED", "ERROR")))]
    if tested.returncode and not faults:
        faults.append(last_line(tested.stdout) or last_line(tested.stderr))
    return Outcome(
        row,
        versions=tuple(found["versions"].items()),
        imported=found["imported"],
        absent=tuple(found["absent"]),
        compiled=found["compiled"],
        architectures=tuple(found["architectures"]),
        tests=last_line(tested.stdout).strip("= "),
        faults=tuple(faults),
        seconds=time.monotonic() - began,
    )


def run(
    command: list[Any], environment: dict[str, str], folder: Path | None = None
) -> subprocess.CompletedProcess[str]:
    """Return the completed process; a command that takes longer than `SECONDS` has exit code 124."""
    words = [str(each) for each in command]
    try:
        return subprocess.run(
            words, env=environment, cwd=folder, capture_output=True, text=True, timeout=SECONDS, check=False
        )
    except subprocess.TimeoutExpired:
        return subprocess.CompletedProcess(words, 124, "", f"took longer than {SECONDS} s")


def fault_of(command: list[Any], environment: dict[str, str]) -> str:
    """Run a command and return the last line of its errors, or its exit code; empty if it succeeded."""
    done = run(command, environment)
    return last_line(done.stderr) or f"exit code {done.returncode}" if done.returncode else ""


def last_line(text: str) -> str:
    """Return the last line that is not blank; empty if there is none."""
    return next((line.strip() for line in reversed(text.splitlines()) if line.strip()), "")


def write(outcomes: list[Outcome], path: Path) -> None:
    """Write the outcomes as JSON to ``path``, and the table as Markdown next to it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    rows = [
        each.__dict__ | {"row": each.row._asdict(), "versions": dict(each.versions), "seconds": round(each.seconds)}
        for each in outcomes
    ]
    path.write_text(
        json.dumps({"machine": f"{platform.system()} {platform.machine()}", "rows": rows}, indent=1) + "\n",
        encoding="utf-8",
    )
    path.with_suffix(".md").write_text(table(outcomes) + "\n", encoding="utf-8")


def table(outcomes: list[Outcome]) -> str:
    """Return the outcomes as a Markdown table, with reasons and errors below it."""
    columns = ["row", *SHOWN, "modules", "kernels compiled", "tests of models/ops"]
    lines = ["| " + " | ".join(columns) + " |", "|---" * len(columns) + "|"]
    notes = []
    for each in outcomes:
        versions = dict(each.versions) or {"python": each.row.python}
        done = [str(each.imported), f"{each.compiled} (sm_{', '.join(map(str, each.architectures))})", each.tests]
        cells = [each.row.name, *(versions.get(name, "") for name in SHOWN)]
        lines.append("| " + " | ".join(cells + (["", "", "not run"] if each.not_run else done)) + " |")
        notes += [f"- {each.row.name}, not run: {each.not_run}"] if each.not_run else []
        notes += [f"- {each.row.name}: {fault}" for fault in each.faults]
    return "\n".join([*lines, *([""] if notes else []), *notes])


def inside() -> None:
    """Runs in a row's environment: import every module, compile the kernel, and print the results as JSON."""
    faults: list[str] = []
    absent: list[str] = []
    imported = 0
    for name in modules():
        try:
            __import__(name)
            imported += 1
        except Exception as fault:  # an import may raise anything; every error is a result
            if is_optional(fault):
                absent.append(name)
            else:
                faults.append(f"import {name}: {type(fault).__name__}: {fault}")
    compiled, architectures, refused = compile_all()
    found = {
        "versions": versions(),
        "imported": imported,
        "absent": absent,
        "compiled": compiled,
        "architectures": architectures,
        "faults": faults + refused,
    }
    print(json.dumps(found))


def is_optional(fault: Exception) -> bool:
    """Whether an error, of Python or of the harness, says that a package of `OPTIONAL` is not installed."""
    missing = [package for package in OPTIONAL if str(fault).startswith(f"{package}: is not installed")]
    return bool(missing) or (isinstance(fault, ModuleNotFoundError) and (fault.name or "").split(".")[0] in OPTIONAL)


def modules() -> Iterator[str]:
    """Yield the names of ``harness`` and all its modules, without programs (``__main__``)."""
    import harness

    yield "harness"
    for found in pkgutil.walk_packages(harness.__path__, "harness.", onerror=lambda _: None):
        if not found.name.endswith("__main__"):
            yield found.name


def compile_all() -> tuple[int, list[int], list[str]]:
    """Compile the models' variants of the kernel for all architectures from sm_75.

    Returns the number of compiled kernels, the architectures, and an error for each kernel that failed.
    """
    import torch

    from harness.models.ops import build
    from harness.models.ops.deform_attn import FLOAT32

    fault = build.missing_packages()
    if fault is not None:
        return 0, [], [fault]
    types = (torch.float32, torch.float16, torch.bfloat16)
    variants = [FLOAT32._replace(value=value, point=value) for value in types]
    variants += [FLOAT32._replace(value=torch.bfloat16), FLOAT32._replace(fused=False)]
    architectures = sorted(each for each in build.architectures() if each >= 75)
    refused = []
    for architecture in architectures:
        for variant in variants:
            try:
                build.compile_kernel(variant, architecture)
            except Exception as error:  # every failure is a line below the table
                refused.append(f"sm_{architecture}: {error}")
    return len(variants) * len(architectures) - len(refused), architectures, refused


def versions() -> dict[str, str]:
    """Return the versions of the packages in `SHOWN`."""
    from importlib import metadata

    from harness.models.ops import build

    found = {"python": platform.python_version()}
    for name in SHOWN[1:]:
        if name != "nvrtc":
            found[name] = metadata.version(name)
    return found | {"nvrtc": str(build.versions()["nvrtc"])}


if __name__ == "__main__":
    if sys.argv[1:] == ["--inside"]:
        inside()
    else:
        sys.exit(main())
