"""``python scripts/make_miniatures --out DIR``: trains the shipped weights of the miniature models.

It pretrains the miniature CLIP and OV2Seg's miniature ResNet, trains the miniature CLIP-VIS and OV2Seg with
`harness train`, and runs both on `shapes`. Existing files are kept, and an interrupted training continues. Copy
``DIR/*_shapes.safetensors`` and ``DIR/card.json`` to ``models/miniatures`` to ship them.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shlex
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

from harness.atomic_write import write_json
from harness.models.miniatures import CARD_FILE, DATASET
from harness.run_folder.provenance import cpu_model, file_digest

FIRST_CLIP, CLIP, RESNET = "clip_first.safetensors", "clip.safetensors", "resnet.safetensors"
STARTS_FROM = {"clipvis": {"clip_pretrained": CLIP}, "ov2seg": {"clip_pretrained": CLIP, "backbone_weights": RESNET}}
"""The settings of each model's training that name pretrained weights."""
REPORTED = ("AP", "APb", "APn", "AP50", "AP75", "AR100")


def main() -> None:
    """Make the miniatures that the command line names."""
    parser = argparse.ArgumentParser(prog="python scripts/make_miniatures", description=__doc__)
    parser.add_argument("--out", type=Path, required=True, help="folder for weights, logs and the card")
    parser.add_argument("--model", action="append", choices=tuple(STARTS_FROM), help="make this one only")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--device", default="cpu")
    given = parser.parse_args()
    given.out.mkdir(parents=True, exist_ok=True)
    for model in given.model or STARTS_FROM:
        _make(model, given.out, given.seed, given.device)
    _write_card(given.out, given.seed, given.device)


def _pretrain(name: str, out: Path, seed: int, device: str) -> None:
    import pretrain_clip
    import pretrain_dense
    import pretrain_resnet

    if name == RESNET:
        pretrain_resnet.pretrain(out / name, seed, device=device)
        return
    _once(out / FIRST_CLIP, partial(pretrain_clip.pretrain, out / FIRST_CLIP, seed, device=device))
    pretrain_dense.pretrain(out / FIRST_CLIP, out / name, seed, device=device)


def _make(model: str, out: Path, seed: int, device: str) -> None:
    """Make the pretrained weights that the model starts from, then train it."""
    for name in STARTS_FROM[model].values():
        _once(out / name, partial(_pretrain, name, out, seed, device))
    target = out / f"{model}_{DATASET}.safetensors"
    _once(target, partial(_train, model, target, seed, device))


def _train(model: str, target: Path, seed: int, device: str) -> None:
    trained = Path(_harness(_training(model, target.parent, seed, device))["weights"])
    target.write_bytes(trained.read_bytes())


def _once(path: Path, make: Callable[[], object]) -> None:
    """Create a missing file, and write the seconds it took into a file next to it."""
    if path.exists():
        return
    began = time.monotonic()
    make()
    write_json(path.with_suffix(".seconds.json"), {"seconds": round(time.monotonic() - began)})


def _training(model: str, out: Path, seed: int, device: str) -> list[str]:
    starts = [part for key, name in STARTS_FROM[model].items() for part in ("--set", f"{key}={out / name}")]
    return ["train", *_common(model, seed, device), "--out", str(out / model), *starts]


def _running(model: str, out: Path, seed: int, device: str) -> list[str]:
    weights = out / f"{model}_{DATASET}.safetensors"
    return ["run", *_common(model, seed, device), "--checkpoint", str(weights), "--runs-dir", str(out / "runs")]


def _common(model: str, seed: int, device: str) -> list[str]:
    return ["--model", model, "--dataset", DATASET, "--device", device, "--seed", str(seed), "--no-mlflow", "--json"]


def _write_card(out: Path, seed: int, device: str) -> None:
    """Evaluate the trained models, and write the card: how they were trained, and their metrics."""
    made_on = {"python": platform.python_version(), "cpu": cpu_model(), "cores": os.cpu_count(), "device": device}
    facts = {
        "dataset": f"{DATASET} train (no object of a novel category)",
        "seed": seed,
        "command": f"python scripts/make_miniatures --out {out} --seed {seed} --device {device}",
        "pretraining_seconds": {name: _seconds(out / name) for name in (FIRST_CLIP, CLIP, RESNET)},
    }
    models = {}
    for model in STARTS_FROM:
        weights = out / f"{model}_{DATASET}.safetensors"
        if not weights.exists():
            continue
        record = _harness(running := _running(model, out, seed, device))["runs"][0]
        models[model] = {
            "commands": [shlex.join(["harness", *part]) for part in (_training(model, out, seed, device), running)],
            "made_on": made_on,
            "seconds": _seconds(weights),
            "sha256": file_digest(weights),
            "settings": json.loads((out / model / "config.json").read_bytes()),
            "metrics": {name: record["metrics"].get(name) for name in REPORTED},
        }
    write_json(out / CARD_FILE, {**facts, "models": models})


def _seconds(path: Path) -> int | None:
    """Return the seconds that it took to make the file; ``None`` if they are unknown."""
    with suppress(OSError, ValueError, KeyError):
        return int(json.loads(path.with_suffix(".seconds.json").read_bytes())["seconds"])
    return None


def _harness(arguments: list[str]) -> dict[str, Any]:
    """Run a command of the harness, show its progress, and return its JSON output."""
    command = [sys.executable, "-c", "from harness.cli.main import main; main()", *arguments]
    done = subprocess.run(command, stdout=subprocess.PIPE, check=True, text=True)
    result: dict[str, Any] = json.loads(done.stdout)
    return result


if __name__ == "__main__":
    main()
