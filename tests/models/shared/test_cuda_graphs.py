"""CUDA graphs on a stand-in that records a call's operators on a CPU, and runs them again at the same addresses."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from harness.models.clipvis.network import ClipVisNetwork
from harness.models.mask2former import position_encoding
from harness.models.mask2former.pixel_decoder import FeatureMaps
from harness.models.mask2former.position_encoding import sine_position_encoding
from harness.models.shared import cuda_graphs
from harness.models.shared.cuda_graphs import MOST_GRAPHS, PLAIN_CALLS, TIMED_CALLS, GraphedCalls
from harness.models.shared.windows import WindowedModel

GPU = torch.device("cuda", 0)


class Recorder(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """A graph: the operators of a block, whose results keep their addresses."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.operators: list[tuple[Any, Any, Any, Any]] = []

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        self.operators.append((func, args, kwargs or {}, result))
        return result

    def replay(self) -> None:
        for func, args, kwargs, result in self.operators:
            for old, new in zip(tree_leaves(result), tree_leaves(func(*args, **kwargs)), strict=True):
                if isinstance(old, Tensor) and old.data_ptr() != new.data_ptr():
                    old.copy_(new)


class PretendedGpu:
    """What `GraphedCalls` asks of ``torch.cuda``; a plain call takes ``plain`` ms, a replay ``graphed``."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now, self.plain, self.graphed = 0.0, 5.0, 1.0
        self.reserved, self.per_graph, self.total = 0, 10, 1000
        self.captures, self.replays, self.has_passed = 0, 0, True
        self.fault: Exception | None = None
        gpu = self

        class Event:
            def __init__(self, enable_timing: bool) -> None:
                self.at = -1.0

            def record(self, stream: object) -> None:
                self.at = gpu.now

            def query(self) -> bool:
                return gpu.has_passed

            def elapsed_time(self, other: Event) -> float:
                return other.at - self.at

        class Graph(Recorder):
            def replay(self) -> None:
                gpu.now += gpu.graphed
                gpu.replays += 1
                super().replay()

        @contextmanager
        def graph(recorder: Graph, stream: object, capture_error_mode: str) -> Iterator[None]:
            assert capture_error_mode == "thread_local"
            with recorder:
                yield
            if gpu.fault is not None:
                raise gpu.fault
            gpu.captures += 1
            gpu.reserved += gpu.per_graph

        stream = SimpleNamespace(wait_stream=lambda other: None)
        for name, made in {
            "Event": Event, "CUDAGraph": Graph, "graph": graph, "Stream": lambda device: stream,
            "current_stream": lambda device: stream, "stream": lambda given: nullcontext(),
            "memory_reserved": lambda device: gpu.reserved,
            "get_device_properties": lambda device: SimpleNamespace(total_memory=gpu.total),
        }.items():  # fmt: skip
            monkeypatch.setattr(torch.cuda, name, made)

    def calls(self, graphs: Any, function: Callable[..., Any] | None = None) -> GraphedCalls[Any]:
        def plainly(*arguments: Any) -> Any:
            self.now += self.plain
            return (function or (lambda x: x + 1))(*arguments)

        return GraphedCalls(plainly, GPU, graphs)


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> PretendedGpu:
    # autocast asks whether there is a CUDA device that can do it
    monkeypatch.setattr(torch.cuda.amp.common, "amp_definitely_not_available", lambda: False)
    return PretendedGpu(monkeypatch)


def features(draw: torch.Generator, frames: int) -> FeatureMaps:
    return FeatureMaps(*(torch.randn(frames, 32 << i, 16 >> i, 24 >> i, generator=draw) for i in range(4)))


@torch.inference_mode()
def test_a_network_gives_the_same_bytes_through_graphs(tiny: ClipVisNetwork, gpu: PretendedGpu) -> None:
    head, draw = tiny.sem_seg_head, torch.Generator().manual_seed(0)
    calls = gpu.calls("on", lambda maps, paddings: head.predictor(head.pixel_decoder(maps, paddings), paddings))
    kept = []
    for number in range(PLAIN_CALLS + 6):
        maps = features(draw, 1 + number % 2)
        expected = head.predictor(head.pixel_decoder(maps, None), None)
        kept.append((tree_leaves(calls(maps, None)), tree_leaves(expected)))
    assert (gpu.captures, gpu.replays) == (2, 3)
    # compared at the end: a replay does not write into results that were given before
    assert all(torch.equal(a, b) for found, wanted in kept for a, b in zip(found, wanted, strict=True))


def test_what_a_graph_reads_is_held_when_it_is_no_longer_kept_by_size(gpu: PretendedGpu) -> None:
    calls = gpu.calls("on", lambda x: x + sine_position_encoding(3, 5, 2))
    x = torch.zeros(1, 4, 3, 5)
    expected = calls(x)
    for _ in range(PLAIN_CALLS):
        calls(x)
    (size,) = calls._sizes.values()
    assert size.graph is not None
    encoding = sine_position_encoding(3, 5, 2)
    assert any(each is encoding for each in size.graph.held)
    for width in range(position_encoding.SIZES_KEPT + 1):
        sine_position_encoding(4, width + 1, 2)
    assert sine_position_encoding(3, 5, 2) is not encoding
    assert torch.equal(calls(x), expected)


@pytest.mark.parametrize(("graphed", "kept"), [(1.0, True), (9.0, False), (5.0, False)])
def test_auto_keeps_what_is_faster(graphed: float, kept: bool, gpu: PretendedGpu) -> None:
    gpu.graphed = graphed
    calls = gpu.calls("auto")
    for number in range(20):
        assert calls(torch.full((2,), number)).tolist() == [number + 1] * 2
    assert gpu.captures == 1
    assert gpu.replays == (20 - PLAIN_CALLS if kept else TIMED_CALLS)


def test_auto_does_not_wait_for_the_gpu(gpu: PretendedGpu) -> None:
    gpu.graphed, gpu.has_passed = 9.0, False
    calls = gpu.calls("auto")
    for _ in range(20):
        calls(torch.zeros(2))
    assert gpu.replays == 20 - PLAIN_CALLS, "nothing is decided before the events"
    gpu.has_passed = True
    for _ in range(5):
        calls(torch.zeros(2))
    assert gpu.replays == 20 - PLAIN_CALLS


@pytest.mark.parametrize("fault", [RuntimeError("operation not permitted\nmore"), torch.OutOfMemoryError("full")])
def test_after_a_failed_capture_there_is_one_warning_and_no_graph(fault: Exception, gpu: PretendedGpu) -> None:
    gpu.fault = fault
    calls = gpu.calls("on")
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        for number in range(12):
            assert calls(torch.zeros(1 + number % 2)).tolist() == [1] * (1 + number % 2)
    (warning,) = told
    assert str(warning.message) == (
        f"CUDA graphs are off: a capture failed ({str(fault).splitlines()[0]}); set graphs=off"
    )
    assert (gpu.captures, gpu.replays) == (0, 0)


def test_no_more_graphs_are_kept_than_are_allowed(gpu: PretendedGpu) -> None:
    calls = gpu.calls("on")
    for length in range(1, MOST_GRAPHS + 3):
        for _ in range(PLAIN_CALLS + 1):
            calls(torch.zeros(length))
    assert [size.graph is not None for size in calls._sizes.values()] == [False] * 2 + [True] * MOST_GRAPHS


def test_graphs_take_no_more_memory_than_is_allowed(gpu: PretendedGpu) -> None:
    gpu.per_graph = 100  # of 1000, of which a fourth is for graphs
    calls = gpu.calls("on")
    for length in (1, 2, 3):
        for _ in range(PLAIN_CALLS + 1):
            calls(torch.zeros(length))
    assert [size.graph is not None for size in calls._sizes.values()] == [False, True, True]
    gpu.per_graph = 251
    for _ in range(PLAIN_CALLS + 3):
        assert calls(torch.zeros(9)).tolist() == [1] * 9
    assert gpu.captures == 4, "a graph that is too large is tried once"


def test_other_sizes_and_types_have_graphs_of_their_own(gpu: PretendedGpu) -> None:
    calls = gpu.calls("on", lambda x, paddings: x + (0 if paddings is None else 1))
    for _ in range(PLAIN_CALLS + 1):
        assert calls(torch.ones(2), None).tolist() == [1, 1]
        assert calls(torch.ones(2), [torch.ones(1)]).tolist() == [2, 2]
        assert calls(torch.ones(2, dtype=torch.float16), None).dtype == torch.float16
    assert gpu.captures == 3


def test_a_window_that_shrinks_ends_them(gpu: PretendedGpu, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "empty_cache", lambda: None)
    model: WindowedModel[Any] = WindowedModel(4, "cuda")
    calls = model.graphed(lambda x: x + 1, "on")
    assert calls is not None
    for _ in range(PLAIN_CALLS + 1):
        calls(torch.zeros(4))
    sizes: Any = SimpleNamespace(padded=(1, 1))
    with pytest.warns(UserWarning, match="shrunk to 2"):
        model._shrink(4, sizes)
    assert calls(torch.zeros(2)).tolist() == [1, 1]
    assert (gpu.replays, len(calls._sizes)) == (1, 0)


def test_there_are_none_on_a_cpu_and_where_they_are_off() -> None:
    assert WindowedModel[Any](4).graphed(abs, "on") is None
    assert WindowedModel[Any](4, "cuda").graphed(abs, "off") is None
    assert GraphedCalls(lambda x: x, torch.device("cpu"), "on")(3) == 3
    assert cuda_graphs.MOST_SIZES > MOST_GRAPHS
