"""Options of functions that numba compiles."""

from __future__ import annotations

from typing import Any

INNER: dict[str, Any] = {"cache": True, "nogil": True, "no_cpython_wrapper": True, "no_cfunc_wrapper": True}
"""Options of ``numba.njit`` for functions that only compiled functions call.

They have no wrapper for calls from Python: compiling it takes as long as compiling a short function.
"""
