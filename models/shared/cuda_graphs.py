"""A function of tensors on a GPU, replayed as a CUDA graph: the host starts one graph instead of hundreds of kernels.

A graph has fixed sizes and fixed addresses. Its inputs are copied to where it reads them, its outputs are copied from
where it writes them. **No GPU has run this yet**; tests record and replay on a CPU.
"""

from __future__ import annotations

import warnings
from collections import OrderedDict
from collections.abc import Callable
from typing import Any, Generic, Literal, NamedTuple, TypeVar

import torch
from torch import Tensor
from torch.utils._pytree import tree_flatten, tree_leaves, tree_map, tree_unflatten

from harness.models.mask2former.position_encoding import tensors_in_use

Output = TypeVar("Output")
Graphs = Literal["off", "on", "auto"]
SizeKey = tuple[Any, ...]

MOST_GRAPHS = 4
"""Graphs that are kept: of full and last windows, of two sizes of frames."""
MOST_SIZES = 64
"""Sizes of which it is remembered how often they came, and what was faster."""
LARGEST_SHARE = 4
"""Graphs may take a fourth of the GPU's memory; their intermediate results are never given back."""
PLAIN_CALLS = 3
"""Calls of a size before it is captured. In the first kernels are loaded and checked, which a capture cannot do."""
TIMED_CALLS = 2
"""Calls that are timed without and with the graph, if it is to be kept only where it is faster."""


class _Graph(NamedTuple):
    """A captured call."""

    graph: Any
    inputs: list[Any]
    """Where it reads its inputs; what is no tensor is as in the call."""
    outputs: Any
    """Where it writes its outputs."""
    held: list[Any]
    """Tensors made elsewhere that it reads at each replay: they must not be freed."""
    nbytes: int


class _Size:
    """What is known of arguments of one size."""

    def __init__(self) -> None:
        self.calls = 0
        self.graph: _Graph | None = None
        self.is_plain = False
        """Decided: no graph."""
        self.times: tuple[list[Any], list[Any]] = ([], [])
        """Pairs of events around calls without and with the graph."""


class GraphedCalls(Generic[Output]):
    """Calls a function as it is at first, and then through a CUDA graph for each size of its arguments.

    The function takes nested tuples and lists of tensors, and returns such; it must not read numbers from the GPU. It
    is called in the same state of autocast and gradients each time. With ``auto`` a graph is kept only where its calls
    take less time on the GPU than the others, launches that the GPU waits for included. If a capture fails, there is a
    warning, and no further graph. Results are tensors of the caller's own.
    """

    def __init__(self, function: Callable[..., Output], device: torch.device, graphs: Graphs) -> None:
        self._function, self._device, self._auto = function, device, graphs == "auto"
        self._sizes: OrderedDict[SizeKey, _Size] = OrderedDict()
        self.is_off = graphs == "off" or device.type != "cuda"
        """Whether the function is called as it is."""

    def __call__(self, *arguments: Any) -> Output:
        """The result of the function for these arguments."""
        if self.is_off:
            return self._function(*arguments)
        leaves = tree_leaves(arguments)
        size = self._size(leaves)
        size.calls += 1
        if size.graph is None and not size.is_plain and size.calls > PLAIN_CALLS:
            self._capture(size, arguments)
        if self._auto and size.graph is not None:
            self._decide(size)
        graph = size.graph
        return self._timed(size, lambda: self._function(*arguments) if graph is None else _replayed(graph, leaves))

    def stop(self) -> None:
        """Call the function as it is from now on, and free the memory of the graphs."""
        self.is_off = True
        self._sizes.clear()

    def _size(self, leaves: list[Any]) -> _Size:
        key = tuple((each.shape, each.dtype) if isinstance(each, Tensor) else each for each in leaves)
        self._sizes[key] = size = self._sizes.pop(key, None) or _Size()  # the last one used goes last
        if len(self._sizes) > MOST_SIZES:
            self._sizes.popitem(last=False)
        return size

    def _timed(self, size: _Size, call: Callable[[], Output]) -> Output:
        """Call, between events if this size is being compared."""
        times = size.times[size.graph is not None]
        if not self._auto or size.is_plain or size.calls == 1 or len(times) >= TIMED_CALLS:
            return call()
        begin, end = _event(), _event()
        stream = torch.cuda.current_stream(self._device)
        begin.record(stream)
        output = call()
        end.record(stream)
        times.append((begin, end))
        return output

    def _decide(self, size: _Size) -> None:
        """Drop the graph if it was slower; decides nothing until the GPU has passed the events, without waiting."""
        plain, graphed = size.times
        if min(len(plain), len(graphed)) < TIMED_CALLS or not all(end.query() for _, end in (*plain, *graphed)):
            return
        without, with_graph = (min(begin.elapsed_time(end) for begin, end in times) for times in size.times)
        if without <= with_graph:
            size.graph, size.is_plain = None, True
        size.times = ([], [])
        size.times[size.graph is not None].extend([None] * TIMED_CALLS)  # no more of them

    def _capture(self, size: _Size, arguments: tuple[Any, ...]) -> None:
        """Capture a call with arguments of this size, if there is memory for it."""
        try:
            size.graph = self._captured(arguments)
        except Exception as error:
            self.stop()
            told = (str(error).splitlines() or [type(error).__name__])[0]
            warnings.warn(f"CUDA graphs are off: a capture failed ({told}); set graphs=off", stacklevel=4)
            return
        bound = torch.cuda.get_device_properties(self._device).total_memory // LARGEST_SHARE
        if size.graph.nbytes > bound:
            size.graph, size.is_plain = None, True
        holders = [each for each in self._sizes.values() if each.graph is not None]
        while len(holders) > MOST_GRAPHS or sum(each.graph.nbytes for each in holders if each.graph) > bound:
            oldest = holders.pop(0)
            oldest.graph, oldest.calls, oldest.times = None, 0, ([], [])

    def _captured(self, arguments: tuple[Any, ...]) -> _Graph:
        leaves, form = tree_flatten(arguments)
        inputs = [each.clone() if isinstance(each, Tensor) else each for each in leaves]
        copied = tree_unflatten(inputs, form)
        before = torch.cuda.memory_reserved(self._device)
        kind = self._device.type
        current, side = torch.cuda.current_stream(self._device), torch.cuda.Stream(self._device)  # type: ignore[no-untyped-call]
        graph = torch.cuda.CUDAGraph()
        # weights that autocast converted and kept would belong to the graph's memory
        mixed = torch.autocast(
            kind, torch.get_autocast_dtype(kind), enabled=torch.is_autocast_enabled(kind), cache_enabled=False
        )
        with mixed, tensors_in_use() as held:
            side.wait_stream(current)
            with torch.cuda.stream(side):
                self._function(*copied)  # libraries set up what they need for a stream
            current.wait_stream(side)
            # another thread may use the GPU meanwhile
            with torch.cuda.graph(graph, stream=side, capture_error_mode="thread_local"):
                outputs = self._function(*copied)
        return _Graph(graph, inputs, outputs, held, torch.cuda.memory_reserved(self._device) - before)


def _event() -> Any:
    return torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]


def _replayed(captured: _Graph, leaves: list[Any]) -> Any:
    """Run the graph on other arguments of its size."""
    for place, given in zip(captured.inputs, leaves, strict=True):
        if isinstance(place, Tensor):
            place.copy_(given, non_blocking=True)
    captured.graph.replay()
    return tree_map(lambda each: each.clone() if isinstance(each, Tensor) else each, captured.outputs)
