"""``python -m harness.models.miniatures --out DIR``: from nothing to the shipped weights.

It pretrains the miniature CLIP, trains the miniature CLIP-VIS on it with `harness train`, and runs it on `shapes`. What
is there already is not made again. Copy ``DIR/*.safetensors`` and ``DIR/card.json`` here to ship them.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import time
from pathlib import Path

from harness.models.miniatures import DATASET
from harness.provenance import cpu_model, file_digest

CLIP = "clip.safetensors"
MODELS = ("clipvis",)


def main() -> None:
    """Make all miniatures in the folder that the command line names."""
    parser = argparse.ArgumentParser(prog="python -m harness.models.miniatures", description=__doc__)
    parser.add_argument("--out", type=Path, required=True, help="folder for weights, logs and the card")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--device", default="cpu")
    given = parser.parse_args()
    given.out.mkdir(parents=True, exist_ok=True)
    clip = given.out / CLIP
    seconds = {}
    if not clip.exists():
        from harness.models.miniatures.pretrain_clip import pretrain

        began = time.monotonic()
        pretrain(clip, given.seed, device=given.device)
        seconds["clip"] = round(time.monotonic() - began)
    cards = [_make(model, clip, given.out, given.seed, given.device) for model in MODELS]
    made = {"python": platform.python_version(), "cpu": cpu_model(), "cores": os.cpu_count(), "seed": given.seed}
    facts = {"dataset": f"{DATASET} train (no novel category)", "made_on": made, "clip_seconds": seconds.get("clip")}
    (given.out / "card.json").write_text(json.dumps({**facts, "models": cards}, indent=1) + "\n")


def _make(model: str, clip: Path, out: Path, seed: int, device: str) -> dict[str, object]:
    """Train one model on the frozen CLIP and run it; returns its entry of the card."""
    folder, target = out / model, out / f"{model}_{DATASET}.safetensors"
    common = ["--model", model, "--dataset", DATASET, "--device", device, "--seed", str(seed), "--no-mlflow", "--json"]
    train = ["train", *common, "--out", str(folder), "--set", f"clip_pretrained={clip}"]
    began = time.monotonic()
    weights = Path(_harness(train)["weights"])
    target.write_bytes(weights.read_bytes())
    seconds = round(time.monotonic() - began)
    run = ["run", *common, "--checkpoint", str(target), "--runs-dir", str(out / "runs")]
    record = _harness(run)["runs"][0]
    return {
        "model": model,
        "commands": [" ".join(["harness", *train]), " ".join(["harness", *run])],
        "seconds": seconds,
        "sha256": file_digest(target),
        "parameters": json.loads((folder / "config.json").read_bytes()),
        "metrics": {name: record["metrics"].get(name) for name in ("AP", "APb", "APn", "AP50", "AP75", "AR100")},
    }


def _harness(arguments: list[str]) -> dict[str, object]:
    """Run a command of the harness; its progress is shown, its JSON returned."""
    command = [sys.executable, "-c", "from harness.cli.main import main; main()", *arguments]
    done = subprocess.run(command, stdout=subprocess.PIPE, check=True, text=True)
    result: dict[str, object] = json.loads(done.stdout)
    return result


if __name__ == "__main__":
    main()
