"""Seeding of random numbers."""

from __future__ import annotations

import hashlib
import random
import sys

import numpy as np


def seed_everything(seed: int, video_id: int | None = None) -> None:
    """Seed the random numbers of Python, numpy and (if it is imported) torch.

    Each video has its own seed, so that its tracks do not depend on the videos before it.
    """
    number = seed if video_id is None else int.from_bytes(hashlib.sha256(f"{seed}/{video_id}".encode()).digest()[:4])
    random.seed(number)
    np.random.seed(number % (1 << 32))
    torch = sys.modules.get("torch")
    if torch is not None:
        torch.manual_seed(number)
