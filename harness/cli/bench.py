"""``harness bench``: how fast a model runs here, stage by stage."""

from __future__ import annotations

import json
import resource
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from harness.errors import UserError

if TYPE_CHECKING:
    from harness.frames import Image


def bench(
    model: Annotated[str, typer.Option(help="Model.")],
    checkpoint: Annotated[Path | None, typer.Option(help="Weights of the model.")] = None,
    video: Annotated[Path | None, typer.Option(help="Video file or folder; default: generated frames.")] = None,
    size: Annotated[str, typer.Option(help="Height x width of generated frames.")] = "480x853",
    frames: Annotated[int, typer.Option(min=1, help="Number of generated frames.")] = 20,
    words: Annotated[int, typer.Option(min=1, help="Size of the vocabulary.")] = 40,
    repeats: Annotated[int, typer.Option(min=1, help="Timed repeats after one warm-up.")] = 3,
    device: Annotated[str | None, typer.Option(help="cpu, cuda; default: cuda where there is a GPU.")] = None,
    precision: Annotated[str, typer.Option(help="fp32, bf16 or fp16.")] = "fp32",
    set_: Annotated[list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="One configuration key.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Measure frames per second, time per stage, peak memory and FLOPs of a model on one video.

    Two passes before warm up (text embeddings, kernels) and count FLOPs; devices are synchronised at every stage.

    Example:

        harness bench --model clipvis --checkpoint clipvis.pth --size 720x1280 --precision bf16
    """
    from harness import plugins
    from harness.config import read_config
    from harness.engines.devices import default_device, refuse_missing
    from harness.engines.model_spec import loaded
    from harness.notebook import dataset_of_words, vocabulary_of
    from harness.plugin_code import convert_plugin_errors
    from harness.types import LoadContext, Video
    from harness.video_file import open_video

    place = device or default_device()
    refuse_missing([place])
    opened = open_video(video)[0] if video else Video(1, "generated", *_size(size), Generated(frames, *_size(size)))
    dataset = dataset_of_words(opened, vocabulary_of([f"thing {i}" for i in range(words)]).categories)
    plugin = plugins.model(model)
    chosen = read_config(plugin.Config, None, set_ or [], model)
    ready = loaded(plugin, chosen, LoadContext(dataset, place, precision, checkpoint))
    with convert_plugin_errors(f"model {model}", "its predict fails"):
        record = measure(ready, opened, dataset.vocabulary, repeats, place)
    record = {"model": model, "device": place, "precision": precision, "size": [opened.height, opened.width], **record}
    if as_json:
        print(json.dumps(record))
        return
    speed, memory = record["frames_per_second"], record["peak_memory_bytes"] / 2**30
    flops = f", {record['flops_per_frame'] / 1e9:.1f} GFLOP per frame" if record["flops_per_frame"] else ""
    print(f"{model} on {place}, {precision}, {opened.height}x{opened.width}: {speed:.2f} frames/s, peak memory"
          f" {memory:.2f} GiB{flops}")  # fmt: skip
    for stage, ms in record["stage_ms_per_frame"].items():
        print(f"  {stage:<15} {ms:9.2f} ms per frame")


def measure(model: Any, video: Any, vocabulary: Any, repeats: int, device: str) -> dict[str, Any]:
    """Time ``repeats`` passes of ``model`` over ``video`` after a warm-up and one that counts the FLOPs.

    Stages are timed where the model has a ``stage`` hook (a context manager by name). ``threads`` are those
    of PyTorch on the CPU.
    """
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    from harness.engines.stages import time_stages

    on_gpu = device.startswith("cuda")
    n = len(video.frames)
    counter = FlopCounterMode(display=False)
    counter.mod_tracker = _NoModules()  # type: ignore[assignment]
    list(model.predict(video, vocabulary))  # text embeddings, which are no work of a frame, and kernels
    with counter, _casting_einsum(device.partition(":")[0]):
        list(model.predict(video, vocabulary))
    if on_gpu:
        torch.cuda.reset_peak_memory_stats(device)
    walls = []
    with time_stages(model) as stages:
        for _ in range(repeats):
            began = time.perf_counter()
            list(model.predict(video, vocabulary))
            if on_gpu:
                torch.cuda.synchronize(device)
            walls.append(time.perf_counter() - began)
    peak = torch.cuda.max_memory_allocated(device) if on_gpu else _peak_of_process()
    return {
        "frames": n,
        "repeats": repeats,
        "frames_per_second": n / min(walls),
        "seconds": walls,
        "stage_ms_per_frame": {name: 1000 * use.seconds / repeats / n for name, use in stages.items()},
        "stage_memory_bytes": {name: use.memory_bytes for name, use in stages.items()},
        "peak_memory_bytes": max([int(peak), *(use.memory_bytes for use in stages.values())]),
        "flops_per_frame": counter.get_total_flops() / n,
        "threads": torch.get_num_threads(),
    }


def _peak_of_process() -> int:
    """Bytes of memory that the process has had at most."""
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def _casting_einsum(device_type: str) -> Any:
    """Have factors of einsum cast as autocast does: the counter of FLOPs takes einsum apart out of autocast's sight."""
    import torch
    from torch.overrides import TorchFunctionMode

    class CastingEinsum(TorchFunctionMode):
        def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            if func is torch.einsum and torch.is_autocast_enabled(device_type):
                dtype = torch.get_autocast_dtype(device_type)
                args = (args[0], *(a.to(dtype) if isinstance(a, torch.Tensor) else a for a in args[1:]))
            return func(*args, **(kwargs or {}))

    return CastingEinsum()


class _NoModules:
    """Stands in for torch's module tracker, which needs autograd; all FLOPs belong to the whole model."""

    parents = frozenset({"Global"})

    def __enter__(self) -> None:
        pass

    def __exit__(self, *exception: object) -> None:
        pass


class Generated:
    """Frames of coloured noise, the same every time; made before they are asked for, so decoding costs nothing."""

    def __init__(self, length: int, height: int, width: int) -> None:
        import numpy as np

        self.length = length
        self._pictures = np.random.default_rng(0).integers(0, 256, (4, height, width, 3), np.uint8)

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, frame_index: int, /) -> Image:
        picture: Image = self._pictures[frame_index % len(self._pictures)]
        return picture


def _size(text: str) -> tuple[int, int]:
    height, _, width = text.lower().partition("x")
    if not height.isdecimal() or not width.isdecimal() or not 0 < int(height) * int(width) < 1 << 28:
        raise UserError("--size", f'"{text}" is not HEIGHTxWIDTH', "for example 480x853")
    return int(height), int(width)
