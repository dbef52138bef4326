"""How functions that numba compiles are declared."""

from __future__ import annotations

from typing import Any

INNER: dict[str, Any] = {"cache": True, "nogil": True, "no_cpython_wrapper": True, "no_cfunc_wrapper": True}
"""Options of ``numba.njit`` for functions that only compiled functions call.

They get no entry from Python, whose code takes as long to compile as a short function itself.
"""
