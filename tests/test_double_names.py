"""A public name stands for one thing: what one module defines at its top level, no other module defines again."""

from __future__ import annotations

import ast
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator

from .test_import_order import modules

CONVENTIONS = {
    # the logger of a module
    "log": r"harness\.",
    # the object that the entry point of a plugin names
    "PLUGIN": r"harness\.(models|baselines|datasets)\.",
    # typer's commands with subcommands
    "app": r"harness\.cli\.",
    # the start of a process: the command line, and what `python -m MODULE` runs
    "main": r"harness\.(cli\.main|engines\.ray_guard|baselines\.external\.watch)$",
    # what the declaration of a dataset cites: its site, its paper, the server that has its truth
    **dict.fromkeys(("HOME", "PAPER", "SERVER"), r"harness\.datasets\.\w+$"),
    # what every model with weights has in its package, under the same names
    "card": r"harness\.(models|baselines)\.\w+\.card$",
    **dict.fromkeys(
        ("architecture_of", "load_network", "released_variant"),
        r"harness\.(models\.clipvis|baselines\.ov2seg)\.checkpoint$",
    ),
    **dict.fromkeys(("build_trainee", "new_network"), r"harness\.(models\.clipvis|baselines\.ov2seg)\.training$"),
    # the same operator in PyTorch, on CPUs and on GPUs
    **dict.fromkeys(
        ("deformable_attention", "fused_deformable_attention", "forward", "backward"), r"harness\.models\.ops\."
    ),
}
"""Names that several modules may define, and a pattern of these modules."""
COMMAND_MODULES = "harness.cli."
"""A command is a function with its name, and so is the function of the Python interface that it calls."""


def defined(body: Iterable[ast.stmt]) -> Iterator[str]:
    """Names that statements of a module define, also below ``if``, ``try`` and ``with``, except for type variables."""
    for node in body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            yield node.name
        elif isinstance(node, ast.Assign | ast.AnnAssign):
            is_type_variable = isinstance(node.value, ast.Call) and ast.unparse(node.value.func) == "TypeVar"
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            for name in () if is_type_variable else (part for target in targets for part in ast.walk(target)):
                if isinstance(name, ast.Name) and isinstance(name.ctx, ast.Store):
                    yield name.id
        elif isinstance(node, ast.If | ast.Try | ast.With):
            for part in ("body", "orelse", "finalbody"):
                yield from defined(getattr(node, part, ()))
            for handler in getattr(node, "handlers", ()):
                yield from defined(handler.body)


def is_command(module: str, name: str) -> bool:
    """Whether a name is that of a command: ``table`` of ``cli/table.py``, ``evaluate`` of ``cli/eval.py``."""
    return module.startswith(COMMAND_MODULES) and name.startswith(module.removeprefix(COMMAND_MODULES))


def test_a_public_name_is_defined_in_one_module() -> None:
    places: dict[str, set[str]] = defaultdict(set)
    for module, path in modules().items():
        for name in defined(ast.parse(path.read_text(encoding="utf-8")).body):
            if not name.startswith("_") and not is_command(module, name):
                places[name].add(module)
    twice = {name: found for name, found in places.items() if len(found) > 1}
    unused = {name for name in CONVENTIONS if name not in twice}
    assert not unused, "conventions that nothing needs"
    odd = {
        name: sorted(found)
        for name, found in twice.items()
        if not all(re.match(CONVENTIONS.get(name, "$"), module) for module in found)
    }
    assert not odd, "one thing: define it in one module; two things: give them two names"


def test_definitions_are_found() -> None:
    text = (
        "import a\nT = TypeVar('T')\nA, (B, *C) = d\nE: int = 1\nif a:\n    F = 1\nelse:\n    def g(): H = 1\nI.j = 2\n"
    )
    text += "try:\n    K = 1\nexcept ValueError:\n    L = 1\nclass M:\n    N = 1\n"
    assert list(defined(ast.parse(text).body)) == ["A", "B", "C", "E", "F", "g", "K", "L", "M"]
