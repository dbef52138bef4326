"""User functions that a configuration names as MODULE:FUNCTION."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any

from harness.errors import UserError


def function_of(name: str, key: str) -> Callable[..., Any]:
    """The function ``name``, from the setting ``key``. Raises `UserError` if it does not exist or load."""
    module, colon, function = name.partition(":")
    if not colon:
        raise UserError(f"detectron2, {key} {name}", "is not MODULE:FUNCTION", f"for example {name}:{key}")
    found = getattr(imported(module, name, key), function, None)
    if not callable(found):
        what = f"module {module} has no function {function}"
        raise UserError(f"detectron2, {key} {name}", f"does not load: {what}", "correct the name")
    return found  # type: ignore[no-any-return]


def imported(module: str, name: str, key: str) -> Any:
    """A module; raises `UserError` where it cannot be imported."""
    try:
        return importlib.import_module(module)
    except (ImportError, ValueError) as error:
        hint = "name the project's folder as project, and the module by its import name there"
        raise UserError(f"detectron2, {key} {name}", f"does not load: {' '.join(str(error).split())}", hint) from error
    except OSError as error:  # FC-CLIP reads lists of classes while it is imported
        hint = "run harness in the folder that the project's paths are relative to"
        raise UserError(f"detectron2, {key} {name}", f"does not load: {error}", hint) from error
