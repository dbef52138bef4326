"""Imports point one way: a package imports from those to its left in `ORDER` only, inside functions as well."""

from __future__ import annotations

import ast
from collections import defaultdict
from pathlib import Path

ROOT = Path(__file__).parents[1]
ORDER = (
    ("plain_text", "arrays", "precision"),
    ("errors", "harness", "standard_output", "versions", "rle_lanes", "compiled"),
    ("plugin_code", "warnings", "masks", "rle", "frames", "paths", "sweeps", "comparability", "first_bytes"),
    ("input_files",),
    ("config", "frame_digests", "atomic_write"),
    ("image_files", "formats"),
    ("frame_folder", "types"),
    ("video_file", "plugins", "events"),
    ("scoring",),
    ("run_folder",),
    ("tracking", "engines", "export", "convert"),
    ("submission", "result_record", "compile_ahead"),
    ("runner", "progress_display"),
    ("training", "one_video", "results_run"),
    ("testing",),
    ("models", "datasets", "reports"),
    ("baselines",),
    ("notebook",),
    ("api",),
    ("cli",),
    ("__main__",),
)
"""Packages and modules of the harness from left to right. Those of one group do not import each other."""
FRONT_DOOR = ("harness", "harness.api")
"""The package exports the names of its Python interface, imported when they are first used."""


def modules() -> dict[str, Path]:
    """Every module by its name; links of the checkout are followed once, from the top-level folders."""
    found = {}
    for folder in ("harness", "models", "baselines", "datasets", "reports"):
        for path in (ROOT / folder).rglob("*.py"):
            parts = path.relative_to(ROOT).with_suffix("").parts
            if folder == "harness" and parts[1] in ("models", "baselines", "datasets", "reports"):
                continue
            parts = parts if folder == "harness" else ("harness", *parts)
            found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


def imports(path: Path, known: dict[str, Path]) -> set[str]:
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {name.name for name in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            inner = {f"{node.module}.{name.name}" for name in node.names}
            found |= {name if name in known else node.module for name in inner}
    return {name for name in found if name in known}


def package(module: str) -> str:
    return [*module.split("."), "harness"][1]


def arrows() -> set[tuple[str, str]]:
    known = modules()
    pairs = {(module, name) for module, path in known.items() for name in imports(path, known)}
    return {(a, b) for a, b in pairs if package(a) != package(b) and (a, b) != FRONT_DOOR}


def test_every_package_has_its_place() -> None:
    placed = [name for group in ORDER for name in group]
    assert len(placed) == len(set(placed))
    assert {package(module) for module in modules()} == set(placed)


def test_imports_point_to_the_left() -> None:
    place = {name: i for i, group in enumerate(ORDER) for name in group}
    wrong = {(a, b) for a, b in arrows() if place[package(b)] >= place[package(a)] and package(b) != "harness"}
    assert wrong == set()


def test_modules_of_a_package_import_in_no_circle() -> None:
    known = modules()
    graph: dict[str, set[str]] = defaultdict(set)
    for module, path in known.items():
        graph[module] = {name for name in imports(path, known) if package(name) == package(module)} - {module}
    done: set[str] = set()
    circles = []

    def walk(module: str, way: tuple[str, ...]) -> None:
        if module in way:
            circles.append(way[way.index(module) :])
            return
        if module in done:
            return
        for name in sorted(graph[module]):
            walk(name, (*way, module))
        done.add(module)

    for module in sorted(known):
        walk(module, ())
    assert circles == []
