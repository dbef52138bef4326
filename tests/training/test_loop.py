"""The training loop: exact resume, failures that keep the last good checkpoint, folders of other trainings."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor
from toy_training import ALONE, CONFIG, Regression, batches

from harness.errors import UserError
from harness.training.config import TrainingConfig
from harness.training.loop import STATE, Training, train
from harness.training.progress import LOG, Step
from harness.training.types import TrainingSample


def training(folder: Path, breaks_at: int | None = None, config: TrainingConfig = CONFIG) -> Training:
    torch.manual_seed(7)
    return Training(Regression(breaks_at), batches, config, folder, {"model": "regression"})


def losses_in(folder: Path) -> list[tuple[int, float]]:
    return [(r["step"], r["loss_error"]) for r in map(json.loads, (folder / LOG).read_text().splitlines())]


def test_a_resumed_training_computes_what_an_uninterrupted_one_does(tmp_path: Path) -> None:
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    expected = load_file(train(training(whole), ALONE))

    def stop(step: Step) -> None:
        if step.step == 10:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(training(cut), ALONE, stop)
    assert losses_in(cut)[-1][0] == 10
    resumed = load_file(train(training(cut), ALONE))  # goes on at step 8
    assert losses_in(cut) == losses_in(whole)
    assert all(torch.equal(resumed[name], expected[name]) for name in expected)


def test_a_loss_that_is_no_number_stops_and_keeps_the_last_checkpoint(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"step 7, loss_error: is nan; the last good checkpoint is kept"):
        train(training(tmp_path, breaks_at=7), ALONE)
    assert torch.load(tmp_path / STATE, weights_only=True)["step"] == 4
    assert losses_in(tmp_path)[-1][0] == 6
    train(training(tmp_path), ALONE)
    assert losses_in(tmp_path)[-1][0] == 12


def test_parts_of_a_batch_give_the_gradient_of_the_whole(tmp_path: Path) -> None:
    def halves(first: int) -> Iterator[Sequence[TrainingSample]]:
        for whole in batches(first):
            yield whole[:1]
            yield whole[1:]

    class Exact(Regression):
        noise = 0.0

    def run(folder: Path, parts: int) -> dict[str, Tensor]:
        torch.manual_seed(7)
        config = CONFIG.model_copy(update={"accumulate": parts, "iterations": 1})
        feed = batches if parts == 1 else halves
        return load_file(train(Training(Exact(), feed, config, folder, {"parts": parts}), ALONE))

    one, two = run(tmp_path / "one", 1), run(tmp_path / "two", 2)
    assert all(torch.allclose(one[name], two[name], atol=1e-6) for name in one)


def test_a_folder_of_another_training_is_refused(tmp_path: Path) -> None:
    train(training(tmp_path), ALONE)
    other = replace(training(tmp_path), content={"model": "another"})
    with pytest.raises(UserError, match=r"config\.json: is of another training \(other model\)"):
        train(other, ALONE)


def test_a_damaged_checkpoint_is_named(tmp_path: Path) -> None:
    train(training(tmp_path), ALONE)
    (tmp_path / STATE).write_bytes(b"no checkpoint")
    with pytest.raises(UserError, match=r"state\.pt: cannot be read"):
        train(training(tmp_path), ALONE)


def test_validation_is_given_weights_at_its_steps_and_at_the_end(tmp_path: Path) -> None:
    seen = []
    config = CONFIG.model_copy(update={"validate_every": 5})
    train(training(tmp_path, config=config), ALONE, validate=lambda step, path: seen.append((step, path.is_file())))
    assert seen == [(5, True), (10, True), (12, True)]


def test_the_learning_rate_follows_warm_up_and_milestones() -> None:
    config = TrainingConfig(learning_rate=1.0, warm_up=4, warm_up_factor=0.2, milestones=(6, 8), iterations=10)
    rates = [config.rate(step) for step in range(10)]
    assert rates == pytest.approx([0.2, 0.4, 0.6, 0.8, 1, 1, 0.1, 0.1, 0.01, 0.01])
    assert TrainingConfig().rate(0) == 1e-4
