"""Digests, for a run's identity, of files that models load themselves; without torch."""

from __future__ import annotations

from pathlib import Path

from harness.run_folder.provenance import file_digest


def clip_file_digest(clip_pretrained: str | None) -> dict[str, str]:
    """SHA-256 of CLIP weights in a local file; empty for a tag of open_clip."""
    if clip_pretrained is None or not Path(clip_pretrained).is_file():
        return {}
    return {"clip_pretrained_sha256": file_digest(Path(clip_pretrained))}
