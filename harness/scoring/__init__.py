"""Scoring: overlaps, matching, average precision, and the protocols declared over them."""

BURST_TASKS = ("burst-class-guided", "burst-exemplar-guided", "burst-open-world")
"""BURST's own tasks, as protocols."""
