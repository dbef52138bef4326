"""Tries the oldest, a middle and the newest versions that the package allows: imports, NVRTC, CPU tests of models/ops.

    python scripts/check_versions.py                                  # all rows, one after the other
    python scripts/check_versions.py --row oldest --row "torch 2.11"  # some of them
    python scripts/check_versions.py --out benchmarks/results/versions.json --torch-backend cpu

Each row of `ROWS` is a new virtual environment in a scratch folder, made by ``uv`` (``pip install uv``) and deleted
before the next one. In it every module of the harness is imported, the CUDA kernel is compiled for every architecture
that the row's NVRTC knows, and ``tests/models/ops`` run on the CPU. A row whose interpreter or packages cannot be had
is listed as not run, with the reason. With PyTorch's CUDA builds, the default on Linux, a row downloads some 3 GB and
needs 8 GB of disk; ``--torch-backend cpu`` takes the CPU builds where PyTorch's own index can be reached. Prints a
table, and writes it to ``--out`` as JSON, and next to it as Markdown. Exit code 1 if a row that ran has a fault.

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
"""For the installation of a row, and for its tests."""
SHOWN = ("python", "torch", "numpy", "pandas", "numba", "nvrtc", "cuda-core", "cuda-bindings")
OPTIONAL = frozenset({"ray", "transformers", "detectron2", "label_studio_sdk", "fiftyone", "fsspec", "playwright"})
"""Packages without which a module of the harness may refuse to be imported."""


class Row(NamedTuple):
    """One environment."""

    name: str
    python: str
    """``3.11``."""
    resolution: str
    """uv's: ``lowest-direct`` is the oldest version of each direct dependency that ``pyproject.toml`` allows."""
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
    """What a row gave."""

    row: Row
    not_run: str = ""
    """Why it was not run."""
    versions: tuple[tuple[str, str], ...] = ()
    imported: int = 0
    """Modules of the harness."""
    absent: tuple[str, ...] = ()
    """Modules that were not imported because a package of `OPTIONAL` is not installed."""
    compiled: int = 0
    """Variants of the kernel times architectures."""
    architectures: tuple[int, ...] = ()
    tests: str = ""
    """pytest's last line."""
    faults: tuple[str, ...] = ()
    seconds: float = 0.0


def main() -> int:
    """Run the rows that are asked for."""
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
    """Make the row's environment in ``folder`` and try it; uv's downloads go there, too, since they are as large."""
    began = time.monotonic()
    python, surroundings = folder / "env/bin/python", os.environ | {"UV_CACHE_DIR": str(folder / "uv")}
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
    """The command's outcome; one that takes longer than `SECONDS` has failed."""
    words = [str(each) for each in command]
    try:
        return subprocess.run(
            words, env=environment, cwd=folder, capture_output=True, text=True, timeout=SECONDS, check=False
        )
    except subprocess.TimeoutExpired:
        return subprocess.CompletedProcess(words, 124, "", f"took longer than {SECONDS} s")


def fault_of(command: list[Any], environment: dict[str, str]) -> str:
    """The last words of a command that failed; nothing of one that did not."""
    done = run(command, environment)
    return last_line(done.stderr) or f"exit code {done.returncode}" if done.returncode else ""


def last_line(text: str) -> str:
    """The last line with anything in it."""
    return next((line.strip() for line in reversed(text.splitlines()) if line.strip()), "")


def write(outcomes: list[Outcome], path: Path) -> None:
    """Keep the outcomes as JSON, and the table as Markdown next to it."""
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
    """The outcomes as a Markdown table, with reasons and faults below."""
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
    """In a row's environment: import everything, compile the kernel, and print what was found as JSON."""
    faults: list[str] = []
    absent: list[str] = []
    imported = 0
    for name in modules():
        try:
            __import__(name)
            imported += 1
        except Exception as fault:  # whatever a module does at its import is what is looked for
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
    """Whether a package of `OPTIONAL` is not installed, in Python's words or in the harness's."""
    missing = [package for package in OPTIONAL if str(fault).startswith(f"{package}: is not installed")]
    return bool(missing) or (isinstance(fault, ModuleNotFoundError) and (fault.name or "").split(".")[0] in OPTIONAL)


def modules() -> Iterator[str]:
    """Names of all modules of the harness, itself first; programs (``__main__``) are left out."""
    import harness

    yield "harness"
    for found in pkgutil.walk_packages(harness.__path__, "harness.", onerror=lambda _: None):
        if not found.name.endswith("__main__"):
            yield found.name


def compile_all() -> tuple[int, list[int], list[str]]:
    """Compile the models' variants: how many, for which architectures from 7.5 on, and what was refused."""
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
            except Exception as error:  # each is a line of the table
                refused.append(f"sm_{architecture}: {error}")
    return len(variants) * len(architectures) - len(refused), architectures, refused


def versions() -> dict[str, str]:
    """Versions of what `SHOWN` names."""
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
