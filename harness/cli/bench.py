"""``harness bench``: how fast a model runs here, stage by stage."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from harness.cli.bench_fit import WINDOW, WINDOWS, forget_peak, measure_fit, peak, peak_of_process, table_of_fit
from harness.errors import UserError, near
from harness.paths import Location, location
from harness.standard_output import tell

if TYPE_CHECKING:
    from collections.abc import Callable

    from harness.frames import Image
    from harness.run_folder.finished_run import FinishedRun
    from harness.run_folder.schemas import BenchAxis
    from harness.types import Category


def bench(
    model: Annotated[str | None, typer.Option(help="Model.")] = None,
    checkpoint: Annotated[Path | None, typer.Option(help="Weights of the model.")] = None,
    video: Annotated[Path | None, typer.Option(help="Video file or folder; default: generated frames.")] = None,
    size: Annotated[str, typer.Option(help="Height x width of generated frames.")] = "480x853",
    frames: Annotated[int, typer.Option(min=1, help="Number of generated frames.")] = 20,
    words: Annotated[int, typer.Option(min=1, help="Number of words in the vocabulary.")] = 40,
    objects: Annotated[int, typer.Option(min=0, help="Number of moving shapes in generated frames.")] = 0,
    repeats: Annotated[int, typer.Option(min=1, help="Timed repeats after one warm-up.")] = 3,
    device: Annotated[str | None, typer.Option(help="cpu, cuda; default: cuda where there is a GPU.")] = None,
    precision: Annotated[str | None, typer.Option(help="fp32, bf16 or fp16; default: fp32.")] = None,
    set_: Annotated[list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="One configuration key.")] = None,
    sweep: Annotated[
        list[str] | None,
        typer.Option(metavar="AXIS=N,N,...", help="Measure at several numbers of words, objects or frames."),
    ] = None,
    further: Annotated[
        list[str] | None, typer.Argument(metavar="[AXIS=N,N,...]", help="Further axes of --sweep.")
    ] = None,
    run: Annotated[
        Location | None,
        typer.Option(
            parser=location, help="--sweep: store it with this run, and use the run's model, settings and precision."
        ),
    ] = None,
    fit: Annotated[
        bool, typer.Option("--fit", help="Say which window, words and frames fit into the memory of this device.")
    ] = False,
    figure: Annotated[Path | None, typer.Option(help="--sweep: draw it to this .pdf or .svg file.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Measure frames per second, time per stage, peak memory and FLOPs of a model on one video.

    Two passes first warm up (text embeddings, kernels) and count FLOPs. A last pass times the stages: nothing overlaps
    in it, and it waits for the GPU after each stage, so their sum may be more than the time of a frame.

    With --sweep: how time and memory grow with words, objects and frames, one at a time while the others keep their
    value, with the straight line through the points and its largest residual. docs/cost.md explains the numbers.

    With --fit: peak memory at two sizes of window, words and frames, and the largest that fit
    according to the lines through them.

    Examples:

        harness bench --model clipvis --checkpoint clipvis.pth --size 720x1280 --precision bf16

        harness bench --model clipvis --checkpoint clipvis.pth --size 720x1280 --fit

        harness bench --run runs/clipvis-lvvis-val-1a2b3c4d --sweep words=1,10,100,1196 frames=10,20,40
    """
    from harness import plugins
    from harness.config import read_config
    from harness.engines.devices import choose_gpu, default_device
    from harness.engines.model_spec import loaded
    from harness.notebook import dataset_of_words
    from harness.plugin_code import convert_plugin_errors
    from harness.types import LoadContext, Video
    from harness.video_file import open_video

    if fit:
        _refuse_beside_fit(sweep, run, video)
    base = {"words": words, "objects": objects, "frames": frames}
    axes = _axes([*(sweep or []), *(further or [])], video)
    if further and not sweep:
        raise UserError(further[0], "is not an option", "write --sweep before it")
    kept = _kept(run, model, precision, set_, axes)
    if figure is not None:
        _refuse_other_figure(figure, axes)
    if kept is None and model is None:
        raise UserError("--model", "is missing", "name a model, or a run with --run and --sweep")
    place = device or default_device()
    choose_gpu(place)
    name = str(model) if kept is None else str(kept.record["model"])
    number = precision or "fp32" if kept is None else kept.content.precision or "fp32"
    plugin = plugins.model(name)
    if kept is None:
        chosen = read_config(plugin.Config, None, set_ or [], name)
    else:
        chosen = plugin.Config(**kept.config["config"])
        checkpoint = _same_weights(kept, plugin, checkpoint)

    def opened(values: dict[str, int]) -> Video:
        height, width = _size(size)
        made = Generated(values["frames"], height, width, values["objects"])
        return open_video(video)[0] if video else Video(1, "generated", height, width, made)

    if fit:
        setting = {"model": name, "device": place, "precision": number}
        _tell_fit(plugin, chosen, checkpoint, opened, base, setting, as_json)
        return
    shown = opened(base)
    dataset = dataset_of_words(shown, _words(words))
    ready = loaded(plugin, chosen, LoadContext(dataset, place, number, checkpoint))
    with convert_plugin_errors(f"model {name}", "its predict fails"):
        if axes:
            measured = _sweep(ready, opened, axes, base, repeats, place)
        else:
            record = measure_model(ready, shown, dataset.vocabulary, repeats, place)
    if axes:
        conditions = {"model": name, "device": place, "precision": number, "size": [shown.height, shown.width]}
        _tell_sweep(conditions, measured, base, repeats, chosen, checkpoint, kept, figure, as_json)
        return
    record = {"model": name, "device": place, "precision": number, "size": [shown.height, shown.width], **record}
    if as_json:
        print(json.dumps(record))
        return
    speed, memory = record["frames_per_second"], record["peak_memory_bytes"] / 2**30
    flops = f", {record['flops_per_frame'] / 1e9:.1f} GFLOP per frame" if record["flops_per_frame"] else ""
    print(f"{name} on {place}, {number}, {shown.height}x{shown.width}: {speed:.2f} frames/s, peak memory"
          f" {memory:.2f} GiB{flops}")  # fmt: skip
    for stage, ms in record["stage_ms_per_frame"].items():
        print(f"  {stage:<15} {ms:9.2f} ms per frame")


def _words(count: int) -> tuple[Category, ...]:
    from harness.notebook import vocabulary_of

    return vocabulary_of([f"thing {i}" for i in range(count)]).categories


def _axes(texts: list[str], video: Path | None) -> dict[str, list[int]]:
    """The swept axes with their distinct values, ascending. Raises `UserError` for text of another form."""
    from harness.run_folder.bench import AXES, WORDS

    found: dict[str, list[int]] = {}
    for text in texts:
        axis, equals, values = text.partition("=")
        where, hint = f"--sweep {text}", "for example --sweep words=1,10,100"
        if axis not in AXES:
            raise UserError(where, f'"{axis}" is not an axis', near(axis, AXES))
        if axis in found:
            raise UserError(where, f"{axis} is swept twice", "write its values in one list")
        numbers = [part.strip() for part in values.split(",")]
        if not equals or not all(part.isdecimal() and len(part) < 10 for part in numbers):
            raise UserError(where, "is not AXIS=N,N,...", hint)
        found[axis] = sorted({int(part) for part in numbers})
        if found[axis][0] < (0 if axis == "objects" else 1):
            raise UserError(where, f"{axis} begin at 1", hint)
        if len(found[axis]) < 2:
            raise UserError(where, "has one value, and a line needs two", hint)
        if video is not None and axis != WORDS:
            raise UserError(where, "needs generated frames", "leave out --video")
    return found


def _refuse_beside_fit(sweep: list[str] | None, run: Location | None, video: Path | None) -> None:
    for option, value in (("--sweep", sweep), ("--run", run), ("--video", video)):
        if value is not None:
            raise UserError(option, "does not go with --fit", "leave one of them out")


def _tell_fit(
    plugin: Any,
    config: Any,
    checkpoint: Path | None,
    opened: Callable[[dict[str, int]], Any],
    base: dict[str, int],
    conditions: dict[str, str],
    as_json: bool,
) -> None:
    """Measure and print what fits into the memory of the device."""
    from harness.engines.model_spec import loaded
    from harness.notebook import dataset_of_words, vocabulary_of
    from harness.plugin_code import convert_plugin_errors
    from harness.types import LoadContext

    chosen = {"words": base["words"], "frames": base["frames"]}
    if WINDOW in type(config).model_fields:  # measured at small windows: whoever asks may have run out of memory
        window = max(2, getattr(config, WINDOW) // 2)
        chosen = {WINDOW: window, "words": base["words"], "frames": max(base["frames"], WINDOWS * window)}
    ready: dict[int | None, Any] = {}

    def load(values: dict[str, int]) -> Any:
        window = values.get(WINDOW)
        if window not in ready:
            ready.clear()  # before the next one is loaded
            changed = config if window is None else config.model_copy(update={WINDOW: window})
            dataset = dataset_of_words(opened({**base, **values}), _words(values["words"]))
            context = LoadContext(dataset, conditions["device"], conditions["precision"], checkpoint)
            ready[window] = loaded(plugin, changed, context)
        return ready[window]

    def words_of(count: int) -> Any:
        return vocabulary_of([f"thing {i}" for i in range(count)])

    with convert_plugin_errors(f"model {plugin.name}", "its predict fails"):
        found = measure_fit(load, lambda n: opened({**base, "frames": n}), words_of, chosen, conditions["device"])
    shown = opened(base)
    record = {**conditions, "size": [shown.height, shown.width], **found}
    print(json.dumps(record) if as_json else table_of_fit(record), end="\n" if as_json else "")


def _kept(
    run: Location | None, model: str | None, precision: str | None, set_: list[str] | None, axes: dict[str, list[int]]
) -> FinishedRun | None:
    """The run that a sweep is stored with. Raises `UserError` for options that the run sets."""
    if run is None:
        return None
    from harness.run_folder.finished_run import FinishedRun

    if not axes:
        raise UserError("--run", "needs --sweep", "add --sweep words=1,10,100")
    for option, value in (("--model", model), ("--precision", precision), ("--set", set_)):
        if value:
            raise UserError(option, "comes from the run", "leave it out")
    return FinishedRun.open(run)


def _same_weights(run: FinishedRun, plugin: Any, checkpoint: Path | None) -> Path | None:
    """The weights of a run: those given, or those that the model ships. Raises `UserError` for others."""
    from harness.run_folder.provenance import weights_digest

    shipped = getattr(plugin, "shipped_weights", None)
    found = checkpoint or (shipped(run.record["dataset"]) if shipped is not None else None)
    found = None if found is None else Path(found)
    if (weights_digest(found) if found else None) != run.content.checkpoint:
        what = "are not the weights of the run" if found else "is needed: the run has weights"
        raise UserError("--checkpoint", what, "name the file that the run was made with")
    return found


def _refuse_other_figure(figure: Path, axes: dict[str, list[int]]) -> None:
    from harness.reports.figures import figure_format

    if not axes:
        raise UserError("--figure", "needs --sweep", "add --sweep words=1,10,100")
    figure_format(figure)


def _sweep(
    model: Any,
    opened: Callable[[dict[str, int]], Any],
    axes: dict[str, list[int]],
    base: dict[str, int],
    repeats: int,
    device: str,
) -> list[BenchAxis]:
    """Measure a model along each axis, while the others have their values in ``base``."""
    from harness.notebook import vocabulary_of
    from harness.run_folder.bench import axis_of
    from harness.run_folder.schemas import BenchPoint

    found = []
    for axis, values in axes.items():
        points = []
        for value in values:
            at = {**base, axis: value}
            video, vocabulary = opened(at), vocabulary_of([f"thing {i}" for i in range(at["words"])])
            list(model.predict(video, vocabulary))  # text embeddings and kernels
            forget_peak(device)
            seconds = min(_passes(model, video, vocabulary, repeats, device))
            points.append(BenchPoint(value, seconds, len(video.frames) / seconds, peak(device)))
            tell(f"{axis} {value}: {points[-1].frames_per_second:.2f} frames/s")
        found.append(axis_of(axis, points))
    return found


def _tell_sweep(
    conditions: dict[str, Any],
    axes: list[BenchAxis],
    base: dict[str, int],
    repeats: int,
    config: Any,
    checkpoint: Path | None,
    run: FinishedRun | None,
    figure: Path | None,
    as_json: bool,
) -> None:
    """Print a sweep, draw it, and store it with its run."""
    import msgspec
    import torch

    from harness import __version__
    from harness.atomic_write import write_atomically, write_json
    from harness.cli.output import command, refuse_other_than_file
    from harness.reports.cost import cost_figure_file, sweep_table
    from harness.run_folder.layout import BENCH
    from harness.run_folder.provenance import cpu_model, weights_digest
    from harness.run_folder.schemas import FORMAT, BenchRecord

    device = conditions["device"]
    hardware = torch.cuda.get_device_name(device) if device.startswith("cuda") else cpu_model() or "unknown CPU"
    record = BenchRecord(
        FORMAT, **conditions, hardware=hardware, threads=torch.get_num_threads(), repeats=repeats, base=base, axes=axes,
        config=config.model_dump(mode="json"), checkpoint=weights_digest(checkpoint) if checkpoint else None,
        harness=__version__,
    )  # fmt: skip
    data = msgspec.to_builtins(record)
    if run is not None:
        write_json(run.folder / BENCH, data)
    if figure is not None:
        refuse_other_than_file(figure)
        write_atomically(figure, cost_figure_file(record, figure, [command()]))
    print(json.dumps(data) if as_json else sweep_table(record), end="\n" if as_json else "")


def measure_model(model: Any, video: Any, vocabulary: Any, repeats: int, device: str) -> dict[str, Any]:
    """Time ``repeats`` passes of ``model`` over ``video`` after a warm-up and one that counts the FLOPs.

    Where the model has a ``stage`` hook (a context manager by name) one more pass of ``stage_pass_seconds`` times the
    stages, one behind the other. ``threads`` are those of PyTorch on the CPU.
    """
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    from harness.engines.stages import time_stages

    on_gpu = device.startswith("cuda")
    n = len(video.frames)
    counter = FlopCounterMode(display=False)
    counter.mod_tracker = _NoModules()  # type: ignore[assignment]
    list(model.predict(video, vocabulary))  # text embeddings, which do not depend on frames, and kernels
    with _nothing_overlaps(model), counter, _casting_einsum(device.partition(":")[0]):
        list(model.predict(video, vocabulary))
    if on_gpu:
        torch.cuda.reset_peak_memory_stats(device)
    walls = _passes(model, video, vocabulary, repeats, device)
    peak = torch.cuda.max_memory_allocated(device) if on_gpu else peak_of_process()
    with _nothing_overlaps(model), time_stages(model, synchronise=True) as stages:
        (stage_pass_seconds,) = _passes(model, video, vocabulary, 1, device)
    return {
        "frames": n,
        "repeats": repeats,
        "frames_per_second": n / min(walls),
        "seconds": walls,
        "stage_pass_seconds": stage_pass_seconds,
        "stage_ms_per_frame": {name: 1000 * use.seconds / n for name, use in stages.items()},
        "stage_memory_bytes": {name: use.memory_bytes for name, use in stages.items()},
        "peak_memory_bytes": max([int(peak), *(use.memory_bytes for use in stages.values())]),
        "flops_per_frame": counter.get_total_flops() / n,
        "threads": torch.get_num_threads(),
    }


@contextmanager
def _nothing_overlaps(model: Any) -> Iterator[None]:
    """Have a model work on one thread only, if it has a switch for that: counters and clocks see what is on theirs."""
    before = getattr(model, "overlap", None)
    if before is None:
        yield
        return
    model.overlap = False
    try:
        yield
    finally:
        model.overlap = before


def _passes(model: Any, video: Any, vocabulary: Any, repeats: int, device: str) -> list[float]:
    """Seconds of each of several passes over a video."""
    walls = []
    for _ in range(repeats):
        began = time.perf_counter()
        list(model.predict(video, vocabulary))
        if device.startswith("cuda"):
            import torch

            torch.cuda.synchronize(device)
        walls.append(time.perf_counter() - began)
    return walls


def _casting_einsum(device_type: str) -> Any:
    """Cast the factors of einsum as autocast does: the counter of FLOPs decomposes einsum outside of autocast."""
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
    """Replaces torch's module tracker, which needs autograd; all FLOPs belong to the whole model."""

    parents = frozenset({"Global"})

    def __enter__(self) -> None:
        pass

    def __exit__(self, *exception: object) -> None:
        pass


class Generated:
    """Frames of coloured noise with ``objects`` moving squares, the same every time.

    Four pictures are created in advance, so decoding costs nothing; they are repeated.
    """

    def __init__(self, length: int, height: int, width: int, objects: int = 0) -> None:
        import numpy as np

        self.length = length
        random = np.random.default_rng(0)
        self._pictures = random.integers(0, 256, (4, height, width, 3), np.uint8)
        side = max(1, min(height, width) // 6)
        for _ in range(objects):
            top, left = (int(random.integers(0, n - side + 1)) for n in (height, width))
            color = random.integers(0, 256, 3, np.uint8)
            for step, picture in enumerate(self._pictures):
                at = min(left + 2 * step, width - side)
                picture[top : top + side, at : at + side] = color

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
