"""Scoring: overlaps, matching, average precision, and the protocols declared over them."""

BURST_TASKS = ("burst-class-guided", "burst-exemplar-guided", "burst-open-world")
"""BURST's own tasks, as protocols."""

TETA_TASKS = ("teta", "teta-tao")
"""TETA of truth that is exhaustive, and of truth that is federated."""
VEVAL = "veval"

HOTA = "hota"
"""Mask HOTA over the categories of a dataset."""

FIXED_AP, EVERY = "fixed-ap", "all"
"""Names that stand for others: the dataset's own protocol with Fixed AP, and every protocol that the data allow."""
