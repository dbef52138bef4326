"""Runs a network over a video in windows: works ahead, halves the window if memory runs out."""

from __future__ import annotations

import warnings
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, closing, contextmanager, nullcontext, suppress
from itertools import islice
from typing import Any, Generic, NamedTuple, TypeVar

import torch
from torch import Tensor

from harness.errors import UserError
from harness.frames import AheadReader, Image
from harness.models.shared.cuda_graphs import GraphedCalls, Graphs
from harness.models.shared.numeric_policy import float32_policy
from harness.models.shared.overlap import Group, OwnThread, WindowConsumer
from harness.models.shared.preprocess import Geometry, resize
from harness.models.shared.spill_buffer import return_freed_memory
from harness.precision import dtype_of
from harness.types import Video

WINDOWS_AHEAD = 2
"""Windows of frames that are decoded and resized before they are needed, ..."""
FRAME_BYTES_AHEAD = 256 << 20
"""... if they take no more than this. A window at 480x853 takes 12 MB, at 1080x1920 62 MB."""
LEAST_AHEAD = 4
"""Frames that are decoded ahead whatever they take."""
WINDOWS_BEGUN = 2
"""Windows of the next video that are computed, at most, while the results of this one are."""

WINDOWS_PER_RETURN = 100
"""Number of windows after which freed memory is returned to the system."""

Stages = Callable[[str], AbstractContextManager[object]]
Output = TypeVar("Output")
Result = TypeVar("Result")


class _Expected(NamedTuple, Generic[Output]):
    """A video that will probably be asked for."""

    video: Video
    sizes: Geometry
    reader: AheadReader
    frames: Iterator[Image]
    """What the reader yields, resized."""
    outputs: deque[Output]
    """Those of its first windows, as far as they are computed."""


class WindowedModel(Generic[Output]):
    """A model whose network processes frames independently, at most ``window`` at once.

    ``precision`` is ``fp32``, ``bf16`` or ``fp16``. ``stage(name)`` is entered around each stage of the work, for
    timing, on several threads. A subclass runs its network in `forward`.
    """

    overlap = True
    """Whether matching, scores and early encoding of a window run in parallel with the network of the next one, and the
    end of a video in parallel with the beginning of the next one, whose first windows are decoded and computed."""

    def __init__(
        self, window: int, device: str = "cpu", precision: str = "fp32", stage: Stages = lambda name: nullcontext()
    ) -> None:
        self.device, self.dtype, self.stage = torch.device(device), dtype_of(precision), stage
        self._largest_window = self._window = window
        self._expected: list[_Expected[Output]] = []
        self._begins = True  # until there was too little memory for it
        self._graphed: list[GraphedCalls[Any]] = []

    def float32_policy(self) -> AbstractContextManager[None]:
        """Exact float32 with ``precision`` fp32; TF32 where the GPU has it in what bf16 and fp16 leave in float32."""
        return float32_policy(exact=self.dtype == torch.float32)

    def forward(self, frames: list[Image], sizes: Geometry) -> Output:
        """Run the network on resized frames ``(h, w, 3)``."""
        raise NotImplementedError

    def geometry(self, height: int, width: int) -> Geometry:
        """Sizes of frames of ``height`` and ``width`` pixels at each step of the model."""
        raise NotImplementedError

    def graphed(self, function: Callable[..., Result], graphs: Graphs) -> GraphedCalls[Result] | None:
        """The function through CUDA graphs, see `GraphedCalls`; ``None`` without a GPU, and if they are off.

        If memory runs out there are no graphs any more: the sizes change, and the graphs hold memory.
        """
        made = GraphedCalls(function, self.device, graphs)
        if made.is_off:
            return None
        self._graphed.append(made)
        return made

    def expect(self, videos: Sequence[Video]) -> None:
        """Note which videos come next, see `harness.types.Model`.

        Where frames of one could be decoded ahead and it has none left, frames of the next one are; and at its end
        first windows of the next one are computed, see `begin_next`. What was made of a video that is no longer
        expected is dropped.
        """
        before, self._expected = self._expected, []
        for each in before:
            if any(each.video is video for video in videos):
                self._expected.append(each)
            else:
                each.reader.close()
        for video in videos if self.overlap else ():
            if not any(each.video is video for each in before):
                with suppress(Exception):  # it is raised again when the video's turn comes
                    self._expected.append(self._opened(video, self.geometry(video.height, video.width)))

    def begin_next(self, sizes: Geometry, is_done: Callable[[], bool]) -> None:
        """Compute first windows of the next video, while a video of these ``sizes`` gets its results elsewhere.

        Up to `WINDOWS_BEGUN`, and none after ``is_done``. A window is left out if its frames are not decoded yet, and
        if they are larger than those of this video, whose time and memory would not be its own then. If anything
        fails, what was begun is dropped: the error comes back when it is that video's turn.
        """
        if not self._begins or not self._expected:
            return
        coming = self._expected[0]
        if coming.sizes.padded[0] * coming.sizes.padded[1] > sizes.padded[0] * sizes.padded[1]:
            return
        try:
            while len(coming.outputs) < WINDOWS_BEGUN and coming.reader.has_decoded(self._window) and not is_done():
                coming.outputs.append(self.forward(list(islice(coming.frames, self._window)), coming.sizes))
            return
        except Exception as error:
            is_full = is_out_of_memory(error)
        except BaseException:  # an interrupt: frames were read whose output is missing
            self._drop(coming)
            raise
        self._drop(coming)
        if is_full:
            self._begin_no_more()

    def consumer(
        self,
        match: Callable[..., Tensor],
        add: Callable[[Tensor, Group], None],
        keep: Callable[[Tensor, Tensor], None],
    ) -> WindowConsumer[Group]:
        """What does the host's work on the windows of a video, see `WindowConsumer`. Close it after use."""
        return WindowConsumer(OwnThread(self.device, self.overlap), self.stage, match, add, keep)

    def outputs(self, video: Video, sizes: Geometry) -> Iterator[Output]:
        """Yield the result of `forward` for each window; the window is halved once if the GPU runs out of memory.

        Raises `UserError` for frames of another size than the video's, and if half a window does not fit either.
        """
        own = self._taken(video, sizes)
        with closing(own.reader):
            if own.outputs:
                own.reader.fill(self._decode_next)  # it could begin with no other video before it was its turn
            while own.outputs:
                yield own.outputs.popleft()
            for number, window in enumerate(self._windows(own.frames), 1):
                if number % WINDOWS_PER_RETURN == 0:
                    return_freed_memory()
                waiting = [window]
                while waiting:
                    frames = waiting.pop(0)
                    output = self._forward_if_it_fits(frames, sizes)
                    if output is not None:
                        yield output
                    else:
                        waiting = [frames[: self._window], frames[self._window :]]

    def retry_with_smaller_window(self, predict: Callable[[], Result], frames: int, sizes: Geometry) -> Result:
        """Run ``predict``, a whole video of ``frames`` frames; if memory runs out, once more with half the window.

        For what takes memory outside `forward`: words, classification, encoding. Raises as `outputs` does.
        """
        try:
            return predict()
        except Exception as error:
            if not is_out_of_memory(error):
                raise
        # the exception has released the memory of the failed attempt
        if self._drop_begun():
            return self.retry_with_smaller_window(predict, frames, sizes)
        self._shrink(min(self._window, frames), sizes)
        with self.memory_errors(self._window, sizes):
            return predict()

    @contextmanager
    def memory_errors(self, frames: int, sizes: Geometry) -> Iterator[None]:
        """Raise `UserError` if the device has too little memory for the work on so many frames."""
        try:
            yield
        except Exception as error:
            if not is_out_of_memory(error):
                raise
            raise self._too_little_memory(frames, sizes) from None

    def _forward_if_it_fits(self, frames: list[Image], sizes: Geometry) -> Output | None:
        """Run `forward`; the first time that memory runs out halve the window, warn and return ``None``."""
        try:
            return self.forward(frames, sizes)
        except Exception as error:
            if not is_out_of_memory(error):
                raise
        # the exception has released the memory of the failed attempt
        if self._drop_begun():
            return self._forward_if_it_fits(frames, sizes)
        self._shrink(len(frames), sizes)
        return None

    def _shrink(self, frames: int, sizes: Geometry) -> None:
        """Halve the window and warn; raises `UserError` if it was halved before, or if ``frames`` is 1 or less."""
        if self._window < self._largest_window or frames <= 1:
            raise self._too_little_memory(frames, sizes)
        self._window = -(-frames // 2)
        for calls in self._graphed:
            calls.stop()
        self._free_cache()
        warnings.warn(f"device {self.device} ran out of memory; window shrunk to {self._window} frames", stacklevel=3)

    def _drop_begun(self) -> bool:
        """Free the memory of a video that was begun, and begin none any more; returns whether there was one."""
        begun = [each for each in self._expected if each.outputs]
        for each in begun:
            self._drop(each)
        if begun:
            self._begin_no_more()
        return bool(begun)

    def _drop(self, expected: _Expected[Output]) -> None:
        self._expected = [each for each in self._expected if each is not expected]
        expected.reader.close()
        expected.outputs.clear()

    def _begin_no_more(self) -> None:
        self._begins = False
        self._free_cache()

    def _free_cache(self) -> None:
        if self.device.type == "cuda":
            torch.cuda.empty_cache()

    def _too_little_memory(self, frames: int, sizes: Geometry) -> UserError:
        count = "1 frame" if frames == 1 else f"{frames} frames"
        what = f"does not have enough memory for {count} of {sizes.padded[0]}x{sizes.padded[1]}"
        hint = "lower window or short_edge (`harness bench --fit` says what fits), or use the CPU"
        return UserError(f"device {self.device}", what, hint)

    def _windows(self, frames: Iterator[Image]) -> Iterator[list[Image]]:
        """Yield frames, a window at a time."""
        while True:
            with self.stage("decode"):
                window = list(islice(frames, self._window))
            if not window:
                return
            yield window

    def _taken(self, video: Video, sizes: Geometry) -> _Expected[Output]:
        """What was made of the video ahead, which is no longer expected then; or a beginning."""
        found = [each for each in self._expected if each.video is video]
        self._expected = [each for each in self._expected if each.video is not video]
        return found[0] if found else self._opened(video, sizes)

    def _opened(self, video: Video, sizes: Geometry) -> _Expected[Output]:
        reader = AheadReader(_ResizedFrames(video, sizes.resized), frames_ahead(self._window, sizes.resized))
        return _Expected(video, sizes, reader, reader.read(self._decode_next), deque())

    def _decode_next(self) -> None:
        """Begin to decode one more frame of the next video, if one is expected."""
        if self._expected:
            self._expected[0].reader.begin()


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error says that a GPU has too little memory: that of PyTorch's allocator, of a library or of CUDA."""
    if isinstance(error, torch.OutOfMemoryError):
        return True
    text = str(error)
    return isinstance(error, RuntimeError) and any(
        sign in text for sign in ("CUDA error: out of memory", "ALLOC_FAILED")
    )


def frames_ahead(window: int, size: tuple[int, int]) -> int:
    """How many frames of ``size`` are decoded ahead with a window of so many."""
    return min(WINDOWS_AHEAD * window, max(FRAME_BYTES_AHEAD // (3 * size[0] * size[1]), LEAST_AHEAD))


class _ResizedFrames:
    """Frames of a video at the size of the network's input; resized where they are decoded, ahead of need."""

    def __init__(self, video: Video, size: tuple[int, int]) -> None:
        self.video, self.size = video, size

    def __len__(self) -> int:
        return len(self.video.frames)

    def __getitem__(self, frame_index: int, /) -> Image:
        frame, video = self.video.frames[frame_index], self.video
        if frame.shape[:2] != (video.height, video.width):
            raise UserError(
                f"video {video.id} ({video.name}), frame {frame_index}",
                f"is {frame.shape[1]}x{frame.shape[0]}, the video is {video.width}x{video.height}",
                "give all frames of a video one size",
            )
        return resize(frame, self.size)
