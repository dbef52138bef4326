"""Switches of TF32: set for a block, whichever of PyTorch's two sets a user has written, and put back."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from typing import Any

import pytest
import torch

from harness.models.shared.numeric_policy import float32_policy

PROGRAM = """
import json, os, sys
import torch
from harness.models.shared.numeric_policy import float32_policy

backends = torch.backends
torch.set_num_threads(1)

def state():
    found = {}
    for name, read in {
        "matmul": lambda: backends.cuda.matmul.fp32_precision,
        "conv": lambda: backends.cudnn.conv.fp32_precision,
        "cpu matmul": lambda: backends.mkldnn.matmul.fp32_precision,
        "cpu conv": lambda: backends.mkldnn.conv.fp32_precision,
        "cpu rnn": lambda: backends.mkldnn.rnn.fp32_precision,
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

draw = torch.Generator().manual_seed(0)
images, filters = torch.randn(1, 32, 32, 32, generator=draw), torch.randn(32, 32, 3, 3, generator=draw)

def errors():
    pairs = ((torch.conv2d, (images, filters)), (torch.mm, (images[0].flatten(1), images[0].flatten(1).T)))
    wanted = [(call(*given).double(), call(*(each.double() for each in given))) for call, given in pairs]
    return [float((got - exact).norm() / exact.norm()) for got, exact in wanted]

def tried(user):
    exec(user)
    before = state()
    inside = {}
    for exact in (True, False):
        try:
            with float32_policy(exact):
                inside[exact] = state() | {"errors": errors()}
                raise KeyError
        except KeyError:
            pass
    return [before, inside[True], inside[False], state()]

for user in json.loads(sys.argv[1]):
    sys.stdout.flush()
    if os.fork() == 0:
        print(json.dumps(tried(user)), flush=True)
        os._exit(0)
    os.wait()
"""
SWITCHES = [
    "backends.cuda.matmul.allow_tf32 = True",
    "backends.cudnn.allow_tf32 = False",
    "torch.set_float32_matmul_precision('medium')",
    "backends.cuda.matmul.fp32_precision = 'tf32'",
    "backends.cudnn.conv.fp32_precision = 'ieee'",
    "backends.fp32_precision = 'tf32'",
    "backends.fp32_precision = 'bf16'",
    "backends.mkldnn.matmul.fp32_precision = 'bf16'",
    "backends.mkldnn.conv.fp32_precision = 'bf16'",
    "backends.cudnn.benchmark = True",
]


def test_switches_of_a_user() -> None:
    """None, each and all pairs of them, in a process of its own each: the switches are PyTorch's global state."""
    users = ["", *SWITCHES, *(f"{one}; {two}" for one in SWITCHES for two in SWITCHES if one != two)]
    if not hasattr(torch.backends.mkldnn, "conv"):  # before torch 2.9
        users = [user for user in users if "fp32_precision" not in user]
    command = [sys.executable, "-W", "ignore", "-c", PROGRAM, json.dumps(users)]
    run = subprocess.run(command, capture_output=True, text=True, check=False)
    assert run.stderr == ""
    found = [json.loads(line) for line in run.stdout.splitlines()]
    assert len(found) == len(users)
    for user, states in zip(users, found, strict=True):
        check_states(user, *states)


def check_states(user: str, before: Any, exact: Any, loose: Any, after: Any) -> None:
    """What a user's switches are inside both kinds of blocks and after them."""
    unreadable = {name for name, value in before.items() if value == "RuntimeError"}
    assert {name: after[name] for name in before.keys() - unreadable} == {
        name: before[name] for name in before.keys() - unreadable
    }, user
    assert max(exact["errors"]) < 1e-6, user
    for state, allowed in ((exact, False), (loose, True)):
        assert (state["old matmul"], state["old conv"]) == (allowed, allowed), user
        assert {value for name, value in state.items() if name.endswith(("matmul", "conv", "rnn"))} <= {
            allowed, "tf32" if allowed else "ieee", "AttributeError"
        }, user  # fmt: skip
        assert state["precision"] in (["highest"] if not allowed else ["high", "medium"]), user
        assert state["benchmark"] == before["benchmark"], user


def test_blocks_of_several_threads_end_in_any_order() -> None:
    """While one of them is exact all are; after the last one the switches are as before."""
    before, entered, end = torch.get_float32_matmul_precision(), threading.Event(), threading.Event()

    def exactly() -> None:
        with float32_policy(True):
            entered.set()
            assert end.wait(10)

    thread = threading.Thread(target=exactly)
    torch.set_float32_matmul_precision("medium")
    try:
        with float32_policy(False):
            assert torch.get_float32_matmul_precision() == "high"
            thread.start()
            assert entered.wait(10)
            assert torch.get_float32_matmul_precision() == "highest"
            with float32_policy(False):
                assert torch.get_float32_matmul_precision() == "highest"
        assert torch.get_float32_matmul_precision() == "highest"
        end.set()
        thread.join()
        assert torch.get_float32_matmul_precision() == "medium"
    finally:
        torch.set_float32_matmul_precision(before)


def test_an_error_of_a_nested_block_puts_the_switches_back() -> None:
    before = torch.get_float32_matmul_precision()
    with pytest.raises(KeyError), float32_policy(False), float32_policy(True):
        raise KeyError
    assert torch.get_float32_matmul_precision() == before
