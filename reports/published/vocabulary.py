"""Names in the published table: metrics with ranges, datasets, splits; and names of the harness's metrics in it."""

from __future__ import annotations

NOT_STATED = "not stated"
"""A dataset or split that the source does not name."""

SPLITS = ("train", "val", "test")

DATASET_NAMES = {
    "lvvis": "LV-VIS",
    "ytvis2019": "YTVIS19",
    "ytvis2021": "YTVIS21",
    "ytvis2022": "YTVIS22",
    "ovis": "OVIS",
    "burst": "BURST",
    "tao": "TAO",
    "ovtb": "OVT-B",
}
"""Datasets of the harness and their names in the table."""

VEVAL_DOMAINS = {
    "sav": "SA-Co/VEval SA-V",
    "yt1b": "SA-Co/VEval YT-Temporal-1B",
    "smartglasses": "SA-Co/VEval SmartGlasses",
}
"""Domains of the dataset ``saco-veval``, whose splits are ``sav-val`` and so on, and their names in the table."""

OTHER_DATASETS = (
    "BDD100K",
    "MOTS20",
    "GMOT40",
    "DeepSeaMOT",
)
"""Datasets of the table that have no entry here."""

SPEEDS = ("FPS", "latency_ms", "seconds_per_iteration")
"""Metrics that are neither percentages nor fractions."""

FRACTIONS = ("IL_MCC",)
"""Metrics that sources print as fractions; tables of runs show them in percent as all others."""

_PERCENT, _SPEED = (0.0, 100.0), (0.0, float("inf"))
_IN_PERCENT = (
    "AP AP50 AP75 APb APn mAP mAP_common mAP_uncommon AR1 AR10 AP_S AP_L AR10_L AP_fixed HOTA HOTA_common HOTA_uncommon"
    " DetA AssA LocA_HOTA HOTA@0.5 pmF1 pHOTA pDetA pAssA TETA LocA AssocA ClsA"
)

RANGES = {
    **dict.fromkeys(_IN_PERCENT.split(), _PERCENT),
    **dict.fromkeys(FRACTIONS, (-1.0, 1.0)),
    "cgF1": (-100.0, 100.0),
    **dict.fromkeys(SPEEDS, _SPEED),
}
"""The least and the greatest value of each metric. AP and accuracies are in percent."""


def place_in_table(dataset: str, split: str) -> tuple[str | None, str]:
    """Return a dataset and split of the harness as the table names them; ``None`` for a dataset that is not in it."""
    domain, _, part = split.partition("-")
    if dataset == "saco-veval":
        return VEVAL_DOMAINS.get(domain), part
    return DATASET_NAMES.get(dataset), split


def column_name(key: str) -> str:
    """Return the table's name of a key of a run's metrics, which is ``protocol/metric`` for another protocol.

    Metrics share a name only if measured the same way: HOTA of masks names its score threshold (``hota@0.5/HOTA`` is
    ``HOTA@0.5``), HOTA of BURST's official task is ``HOTA``, its track AP ``mAP``. Other keys stay unchanged.
    """
    protocol, slash, metric = key.rpartition("/")
    family, _, threshold = protocol.partition("@")
    if not slash:
        return key
    if family == "hota":
        return f"{_of_hota(metric)}@{threshold}" if threshold else f"{_of_hota(metric)} (all scores)"
    if family == "burst-class-guided":
        name = _of_hota(metric.removesuffix("_all"))
        return f"m{name}" if name.partition("_")[0] == "AP" else name
    if family == "presence":  # over whole vocabularies: IL_MCC without a suffix is that of SA-Co's phrases
        return f"{metric}@{threshold}"
    if family.endswith("-fixed"):
        return f"{metric}_fixed"
    return metric if family.startswith(("teta", "veval")) else key


def _of_hota(metric: str) -> str:
    """``LocA`` without a suffix is that of TETA."""
    return metric.replace("LocA", "LocA_HOTA")
