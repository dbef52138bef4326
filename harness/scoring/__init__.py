"""Scoring: overlaps, matching, average precision, and the protocols declared over them."""

BURST_TASKS = ("burst-class-guided", "burst-exemplar-guided", "burst-open-world")
"""BURST's own tasks, as protocols."""

TETA_TASKS = ("teta", "teta-tao")
"""TETA of truth that is exhaustive, and of truth that is federated."""
VEVAL = "veval"
