"""Waiting in a page of Chromium."""

from __future__ import annotations

from typing import Any


def wait_in_page(page: Any, condition: str) -> None:
    """Draw frames until a condition holds. The pages' policy forbids the `eval` of Playwright's `wait_for_function`."""
    for _ in range(1000):
        if page.evaluate(condition):
            return
        page.evaluate("new Promise((drawn) => requestAnimationFrame(() => drawn()))")
    raise AssertionError(condition)
