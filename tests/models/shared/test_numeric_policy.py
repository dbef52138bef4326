"""Switches of TF32: set for a block, whichever of PyTorch's two sets a user has written, and put back."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

PROGRAM = """
import json
import torch
from harness.models.shared.numeric_policy import float32_policy

backends = torch.backends
def state():
    found = {}
    for name, read in {
        "matmul": lambda: backends.cuda.matmul.fp32_precision,
        "conv": lambda: backends.cudnn.conv.fp32_precision,
        "all": lambda: backends.fp32_precision,
        "old matmul": lambda: backends.cuda.matmul.allow_tf32,
        "old conv": lambda: backends.cudnn.allow_tf32,
        "precision": torch.get_float32_matmul_precision,
        "benchmark": lambda: backends.cudnn.benchmark,
    }.items():
        try:
            found[name] = read()
        except (RuntimeError, AttributeError) as error:
            found[name] = type(error).__name__
    return found

USER
before = state()
inside = {}
for exact in (True, False):
    try:
        with float32_policy(exact):
            inside[exact] = state()
            raise KeyError
    except KeyError:
        pass
print(json.dumps([before, inside[True], inside[False], state()]))
"""
USERS = {
    "nothing": "",
    "old switches": "backends.cuda.matmul.allow_tf32 = True; backends.cudnn.allow_tf32 = False",
    "set_float32_matmul_precision": "torch.set_float32_matmul_precision('medium')",
    "new switches": "backends.cuda.matmul.fp32_precision = 'tf32'; backends.cudnn.conv.fp32_precision = 'ieee'",
    "one new switch for all": "backends.fp32_precision = 'tf32'",
    "benchmark": "backends.cudnn.benchmark = True",
}


@pytest.mark.parametrize("user", USERS.values(), ids=USERS.keys())
def test_switches_of_a_user(user: str) -> None:
    """In a process of its own each: the switches are PyTorch's global state."""
    run = subprocess.run([sys.executable, "-c", PROGRAM.replace("USER", user)], capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    before, exact, loose, after = json.loads(run.stdout)
    unreadable = {name for name, value in before.items() if value == "RuntimeError"}
    assert {name: after[name] for name in before.keys() - unreadable} == {
        name: before[name] for name in before.keys() - unreadable
    }
    for state, allowed in ((exact, False), (loose, True)):
        assert (state["old matmul"], state["old conv"]) == (allowed, allowed)
        assert {state["matmul"], state["conv"]} <= {"tf32" if allowed else "ieee", "AttributeError"}
        assert state["precision"] in (["highest"] if not allowed else ["high", "medium"])
        assert state["benchmark"] == before["benchmark"]
