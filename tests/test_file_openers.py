"""Files that others made are opened by `harness.input_files`: each other place that opens a file is listed here."""

from __future__ import annotations

import ast
from collections import Counter

from .test_import_order import modules

OPENERS = {
    "open", "read_text", "read_bytes", "ZipFile", "GzipFile", "BZ2File", "LZMAFile", "is_zipfile", "TarFile", "memmap",
    "open_memmap", "fromfile", "loadtxt", "genfromtxt", "load_file", "safe_open", "ParquetFile", "read_metadata",
    "read_parquet", "read_csv", "read_json_lines", "from_pretrained", "fdopen", "urlopen", "imread", "VideoCapture",
}  # fmt: skip
"""Names of functions and methods that open files."""
LOADERS = {
    ("np", "load"), ("numpy", "load"), ("torch", "load"), ("json", "load"), ("json", "loads"), ("yaml", "load"),
    ("yaml", "safe_load"), ("pickle", "load"), ("pickle", "loads"), ("msgspec.json", "decode"), ("tomllib", "load"),
}  # fmt: skip
"""The same for functions with names that others have too, with their modules; and decoders of text with any depth."""
ALLOWED: dict[str, dict[str, int]] = {
    "harness.input_files": {"fdopen": 1, "msgspec.json.decode": 1, "open": 1, "read_bytes": 1},
    # what `open_file` has opened or `refuse_odd_file` has checked
    "harness.image_files": {"Pillow.open": 1},
    "harness.video_file": {"av.open": 2},
    "harness.formats.containers": {"ZipFile": 1, "GzipFile": 1, "archive.open": 1},
    "harness.formats.lenient": {"json.loads": 1},
    "harness.formats.segmentations": {"msgspec.json.decode": 2},
    "harness.config": {"yaml.load": 1},
    "harness.convert.cvat": {"ZipFile": 1},
    "harness.training.instance_file": {"memmap": 1},
    "harness.training.loop": {"torch.load": 1, "json.loads": 1},
    "harness.run_folder.store": {"ParquetFile": 1, "read_metadata": 2},
    "harness.models.shared.checkpoint_files": {
        "safe_open": 1, "load_file": 1, "torch.load": 1, "is_zipfile": 1, "ZipFile": 2, "archive.open": 1,
    },
    "harness.models.shared.inert_pickle": {"torch.load": 1},
    "harness.baselines.ov2seg.released_classifiers": {"open_memmap": 1},
    "harness.baselines.sam3.library": {"from_pretrained": 2},
    # files of the package, of Python and of the system
    "harness.plugins": {"read_text": 1},
    "harness.formats.burst": {"open": 1},
    "harness.scoring.burst_tracks": {"open": 1},
    "harness.datasets.categories": {"read_text": 1},
    "harness.reports.pages": {"read_text": 1},
    "harness.reports.published": {"read_text": 1},
    "harness.models.miniatures": {"json.loads": 1, "read_bytes": 1},
    "harness.models.ops.build": {"read_text": 2, "read_bytes": 1},
    "harness.run_folder.provenance": {"read_text": 1},
    "harness.cli.bench_fit": {"read_text": 2},
    "harness.standard_output": {"open": 2},
    # files that the harness writes, and its own locks, objects in a store and caches
    "harness.atomic_write": {"open": 3},
    "harness.cli.eval": {"open": 1},
    "harness.cli.datasets": {"open": 1},
    "harness.export": {"ZipFile": 1, "archive.open": 1},
    "harness.notebook": {"open": 1},
    "harness.tracking.mlflow": {"open": 1},
    "harness.run_folder.lock": {"open": 2, "read_text": 1},
    "harness.run_folder.log": {"read_bytes": 1},
    "harness.engines.ray": {"read_bytes": 1},
    "harness.results_run": {"json.loads": 1},
    "harness.reports.view_video": {"read_bytes": 1},
    "harness.engines.worker": {"pickle.loads": 1},
    "harness.models.shared.text_classifier": {"load_file": 1},
    "harness.training.progress": {"open": 1},
}  # fmt: skip
NOT_FILES = ("webbrowser", "FinishedRun", "OpenedRun", "self", "plugin", "_backend")
"""Owners of methods called ``open`` that open no file."""


def dotted(node: ast.expr) -> str:
    if isinstance(node, ast.Name):
        return node.id
    if isinstance(node, ast.Attribute):
        return f"{dotted(node.value)}.{node.attr}"
    return ""


def opened_by(source: str) -> Counter[str]:
    """How often each way to open a file is called, as ``open`` for paths and as ``MODULE.NAME`` for functions."""
    found: Counter[str] = Counter()
    for node in ast.walk(ast.parse(source)):
        if not isinstance(node, ast.Call):
            continue
        owner, _, name = dotted(node.func).rpartition(".")
        if isinstance(node.func, ast.Attribute):
            name = node.func.attr
        if any((owner, name) == loader for loader in LOADERS):
            found[f"{owner}.{name}"] += 1
        elif name in OPENERS and not (name == "open" and owner.rpartition(".")[2] in NOT_FILES):
            found[f"{owner}.open" if owner in ("Pillow", "av", "archive") else name] += 1
    return found


def test_files_are_opened_in_one_place() -> None:
    found = {name: dict(opened_by(path.read_text(encoding="utf-8"))) for name, path in modules().items()}
    found = {name: calls for name, calls in found.items() if calls}
    new = {name: calls for name, calls in found.items() if calls != ALLOWED.get(name, {})}
    assert not new, f"open files that others made with harness.input_files, or list the place in ALLOWED: {new}"
    assert set(ALLOWED) <= set(found)


def test_each_way_to_open_a_file_is_seen() -> None:
    calls = opened_by(
        "path.read_bytes(); open(path); (a / b).open('rb'); np.load(path); msgspec.json.decode(x); zipfile.ZipFile(p)"
    )
    assert calls == {
        "read_bytes": 1, "open": 2, "np.load": 1, "msgspec.json.decode": 1, "ZipFile": 1
    }  # fmt: skip
    assert not opened_by("FinishedRun.open(path); self.open(a, b)")
