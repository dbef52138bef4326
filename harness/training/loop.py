"""The training loop for any `Trainee` on any `TrainingSet`, with exact resumption.

The images of step k, their augmentation and the sampled points of the losses depend on the seed and on k only. So a
training that was stopped and resumed gives the same weights as one without interruption.
"""

from __future__ import annotations

import hashlib
import inspect
import json
import math
import shutil
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import torch
from torch import nn

from harness.atomic_write import atomic_write, discard_unfinished, write_json
from harness.errors import UserError
from harness.input_files import RECORD_BYTES, decode_json, read_file, refuse_odd_file
from harness.precision import dtype_of
from harness.training.config import TrainingConfig
from harness.training.optimiser import build_optimiser, set_rate
from harness.training.processes import TrainingProcesses
from harness.training.progress import LOG, VALIDATION, Means, Step, append_log, cut_log
from harness.training.types import TrainingSample
from harness.versions import other_version

STATE, WEIGHTS = "state.pt", "model.safetensors"

Batches = Callable[[int], Iterator[Sequence[TrainingSample]]]
"""Yields the batches of this process from the given step on, without drawing the earlier ones."""


@dataclass(frozen=True)
class Training:
    """A training: model, data, settings and folder. ``content`` is everything that the result depends on."""

    trainee: nn.Module
    batches: Batches
    config: TrainingConfig
    folder: Path
    content: Mapping[str, Any]
    precision: str = "fp32"
    seed: int = 0

    @property
    def digest(self) -> str:
        """SHA-256 of the content: a checkpoint of another content is not resumed."""
        text = json.dumps(self.content, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
        return hashlib.sha256(text.encode()).hexdigest()

    @property
    def facts(self) -> dict[str, str]:
        """The metadata of the weights: the content of the training."""
        return {"harness": json.dumps(self.content, sort_keys=True)}


def train(
    training: Training,
    processes: TrainingProcesses,
    on_step: Callable[[Step], None] = lambda step: None,
    validate: Callable[[int, Path], None] = lambda step, weights: None,
) -> Path:
    """Train to the last iteration, from the folder's checkpoint if there is one; return the path of the weights.

    ``on_step`` is called every ``log_every`` steps, ``validate`` with the step and the file of weights every
    ``validate_every`` steps and at the end; both in the first process only. Raises `UserError` if a loss is not finite
    (the last checkpoint stays), and for a folder of another training.
    """
    config, folder = training.config, training.folder
    if processes.is_first:
        folder.mkdir(parents=True, exist_ok=True)
        discard_unfinished(folder)
        _claim(training)
    processes.wait()
    optimiser = build_optimiser(training.trainee, config, training.trainee.rates())  # type: ignore[operator]
    scaler = torch.amp.GradScaler(_kind(processes), enabled=training.precision == "fp16")
    first = _resume(training, optimiser, scaler, processes)
    if processes.is_first:
        cut_log(folder, first)
    model = _shared(training.trainee, processes)
    batches = training.batches(first)
    means, began = Means(), time.monotonic()
    for step in range(first, config.iterations):
        set_rate(optimiser, config.rate(step))
        torch.manual_seed(_seed(training.seed, step, processes.rank))
        losses, gradient = _step(training, model, batches, optimiser, scaler, processes)
        _check(losses, step, training)
        means.add({**losses, "gradient": gradient})
        done = step + 1
        if processes.is_first and (done % config.log_every == 0 or done == config.iterations):
            seconds = (time.monotonic() - began) / means.count
            averages, began = means.take(), time.monotonic()
            report = Step(done, config.iterations, averages, config.rate(step), averages.pop("gradient"), seconds)
            append_log(folder, {"step": done, "rate": report.rate, "gradient": report.gradient, **averages})
            on_step(report)
        if processes.is_first and (done % config.checkpoint_every == 0 or done == config.iterations):
            _save(training, done, optimiser, scaler)
        if config.validate_every and done % config.validate_every == 0 and done < config.iterations:
            _validate(training, done, processes, validate)
            began = time.monotonic()
    _validate(training, config.iterations, processes, validate)
    return folder / WEIGHTS


def remove_training(folder: Path) -> None:
    """Remove the files of a training; other files in its folder stay."""
    try:
        for name in ("config.json", STATE, WEIGHTS, LOG, "environment.json", "mlflow.json", "run.log"):
            (folder / name).unlink(missing_ok=True)
        shutil.rmtree(folder / VALIDATION, ignore_errors=True)
    except OSError as error:
        hint = f"run `chmod -R u+rwX {folder}`"
        raise UserError(str(folder), f"cannot be removed: {error.strerror}", hint) from error


def _step(
    training: Training,
    model: nn.Module,
    batches: Iterator[Sequence[TrainingSample]],
    optimiser: torch.optim.Optimizer,
    scaler: torch.amp.GradScaler,
    processes: TrainingProcesses,
) -> tuple[dict[str, float], float]:
    """Do one step of the optimiser; return the losses (means over parts and processes) and the gradient's norm."""
    parts, device = training.config.accumulate, _kind(processes)
    mixed = training.precision != "fp32"
    means = Means()
    model.train()
    optimiser.zero_grad(set_to_none=True)
    for part in range(parts):
        with ExitStack() as stack:
            stack.enter_context(_unshared(model, part < parts - 1))
            stack.enter_context(torch.autocast(device, dtype=dtype_of(training.precision), enabled=mixed))
            losses = model(next(batches))
            means.add(processes.mean(losses))
            scaler.scale(losses["total"] / parts).backward()
    scaler.unscale_(optimiser)
    gradient = nn.utils.clip_grad_norm_(training.trainee.parameters(), training.config.clip_norm)
    scaler.step(optimiser)
    scaler.update()
    return means.take(), gradient.item() if torch.isfinite(gradient) else 0.0


def _check(losses: Mapping[str, float], step: int, training: Training) -> None:
    wrong = [name for name, value in losses.items() if not math.isfinite(value)]
    if wrong:
        kept = f"the last good checkpoint is kept in {training.folder / STATE}"
        raise UserError(
            f"step {step + 1}, {wrong[0]}",
            f"is {losses[wrong[0]]}; {kept}",
            "lower learning_rate, train in fp32 or bf16, or check the images of this step",
        )


def _validate(
    training: Training, step: int, processes: TrainingProcesses, validate: Callable[[int, Path], None]
) -> None:
    """Write the weights and validate them in the first process, while the others wait."""
    if processes.is_first:
        path = training.folder / WEIGHTS
        training.trainee.export(path, {**training.facts, "step": str(step)})  # type: ignore[operator]
        validate(step, path)
    processes.wait()


def _claim(training: Training) -> None:
    """Write the content of the training, or refuse a folder of another one."""
    path = training.folder / "config.json"
    content = json.loads(json.dumps(training.content))
    if path.exists():
        try:
            data = read_file(path, RECORD_BYTES, is_text=True)
            before = decode_json(data)
        except msgspec.MsgspecError as error:
            raise UserError(str(path), f"is damaged: {error}", "name another --out") from error
        if other := other_version(data, (content.get("format", 1),)):
            raise UserError(
                str(path), other, "resume with that version, name another --out, or start over with --fresh"
            )
        if before != content:
            changed = [key for key in sorted({*before, *content}) if before.get(key) != content.get(key)]
            what = f"is of another training (other {', '.join(changed)})"
            raise UserError(str(path), what, "name another --out, or start it over with --fresh")
    write_json(path, content)


def _save(training: Training, step: int, optimiser: torch.optim.Optimizer, scaler: torch.amp.GradScaler) -> None:
    """Write everything that the next step depends on, atomically."""
    state = {
        "digest": training.digest,
        "step": step,
        "trainee": training.trainee.state_dict(),
        "optimiser": optimiser.state_dict(),
        "scaler": scaler.state_dict(),
    }
    with atomic_write(training.folder / STATE) as file:
        torch.save(state, file)


def _resume(
    training: Training, optimiser: torch.optim.Optimizer, scaler: torch.amp.GradScaler, processes: TrainingProcesses
) -> int:
    """Load the folder's checkpoint; return the number of steps done."""
    path = training.folder / STATE
    if not path.exists():
        return 0
    try:
        refuse_odd_file(path)
        state = torch.load(path, map_location=processes.device, weights_only=True)
        if state["digest"] != training.digest:
            raise UserError(str(path), "is of another training", "name another --out, or start it over with --fresh")
        training.trainee.load_state_dict(state["trainee"])
        optimiser.load_state_dict(state["optimiser"])
        scaler.load_state_dict(state["scaler"])
        return int(state["step"])
    except UserError:
        raise
    except Exception as error:  # torch may raise any exception for a damaged file
        raise UserError(str(path), f"cannot be read: {error}", "delete it to start over") from error


def _shared(trainee: nn.Module, processes: TrainingProcesses) -> nn.Module:
    """Return the model with gradients averaged over the processes."""
    if processes.count == 1:
        return trainee
    devices = [processes.device] if processes.device.startswith("cuda") else None
    parallel = nn.parallel.DistributedDataParallel
    # one option with two names: PyTorch warns of the old one where it has the new one
    is_new = "forward_sync_buffers" in inspect.signature(parallel).parameters
    without_buffers: dict[str, Any] = {"forward_sync_buffers" if is_new else "broadcast_buffers": False}
    return parallel(trainee, device_ids=devices, **without_buffers)


def _unshared(model: nn.Module, is_partial: bool) -> AbstractContextManager[None]:
    """Exchange gradients once per step, with its last part."""
    if is_partial and isinstance(model, nn.parallel.DistributedDataParallel):
        return model.no_sync()
    return nullcontext()


def _kind(processes: TrainingProcesses) -> str:
    return torch.device(processes.device).type


def _seed(seed: int, step: int, rank: int) -> int:
    """A seed for the random points of one step in one process."""
    text = f"{seed}/{step}/{rank}"
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "little") >> 1
