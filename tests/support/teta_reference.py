"""TETA in plain Python, one rule after the other, to compare the compiled one with; slow.

A video is a list of steps, a step ``(truths, found, overlaps)``: pairs of track and class, and the table of overlaps.
"""

from __future__ import annotations

from collections import defaultdict
from typing import Any

import numpy as np
from scipy.optimize import linear_sum_assignment

ALPHAS = np.arange(0, 0.99, 0.05)
EPSILON = float(np.finfo("float").eps)
Step = tuple[list[tuple[int, int]], list[tuple[int, int]], Any]


def pairs_of(steps: list[Step], truths: list[list[int]], found: list[list[int]]) -> list[list[tuple[int, int]]]:
    """The pairs of a truth and a prediction in each step, among those at the given places."""
    shared: dict[tuple[int, int], float] = defaultdict(float)
    times: dict[tuple[str, int], int] = defaultdict(int)
    for (g, p, s), rows, columns in zip(steps, truths, found, strict=True):
        for r in rows:
            times["truth", g[r][0]] += 1
        for c in columns:
            times["found", p[c][0]] += 1
        part = np.ascontiguousarray(s[np.ix_(rows, columns)])
        by_column, by_row = part.sum(0), part.sum(1)
        for i, r in enumerate(rows):
            for j, c in enumerate(columns):
                total = by_column[j] + by_row[i] - part[i, j]
                if total > EPSILON:
                    shared[g[r][0], p[c][0]] += part[i, j] / total
    out = []
    for (g, p, s), rows, columns in zip(steps, truths, found, strict=True):
        table = np.zeros((len(rows), len(columns)))
        for i, r in enumerate(rows):
            for j, c in enumerate(columns):
                both = shared[g[r][0], p[c][0]]
                table[i, j] = both / (times["truth", g[r][0]] + times["found", p[c][0]] - both) * s[r, c]
        chosen = linear_sum_assignment(-table)
        out.append([(rows[i], columns[j]) for i, j in zip(*chosen, strict=True)])
    return out


def counts(videos: list[list[Step]], classes: int, exhaustive: bool) -> dict[str, Any]:
    """The counts by class and threshold, as the official tool has them and repaired."""
    out = {name: np.zeros((classes, 20)) for name in ("loc_tp", "loc_fn", "loc_fp", "assoc_a", "assoc_re", "assoc_pr")}
    out |= {name: np.zeros((classes, 10)) for name in ("cls_tp", "cls_fn", "cls_fp", "cls_fp_repaired")}
    for steps in videos:
        video(steps, classes, exhaustive, out)
    return out


def video(steps: list[Step], classes: int, exhaustive: bool, out: dict[str, Any]) -> None:
    everyone = [list(range(len(g))) for g, _, _ in steps]
    tracks = {p[c][0] for _, p, s in steps for c in range(len(p)) if (s[:, c] >= 0.5 - EPSILON).any()}
    given: list[dict[int, int]] = [{} for _ in steps]
    if tracks:
        columns = [[c for c in range(len(p)) if p[c][0] in tracks] for _, p, _ in steps]
        for t, pairs in enumerate(pairs_of(steps, everyone, columns)):
            g, _, s = steps[t]
            given[t] = {c: g[r][1] for r, c in pairs if s[r, c] >= 0.5 - EPSILON}
    wrong, repaired = np.zeros((classes, 10)), np.zeros((classes, 10))
    for k in range(classes):
        truths = [[r for r in range(len(g)) if g[r][1] == k] for g, _, _ in steps]
        near = [
            [c for c in range(len(p)) if (s[rows, c] >= 0.5 - EPSILON).any() and given[t].get(c, k) == k]
            for t, ((_, p, s), rows) in enumerate(zip(steps, truths, strict=True))
        ]
        elsewhere = [
            sum(p[c][1] == k and c not in close for c in range(len(p)))
            for (_, p, _), close in zip(steps, near, strict=True)
        ]
        if not any(near):
            out["loc_fn"][k] += sum(map(len, truths))
            if exhaustive:
                wrong[k] = sum(elsewhere)
                repaired[k] += sum(elsewhere)
            continue
        tracks = {steps[t][1][c][0] for t, close in enumerate(near) for c in close}
        columns = [[c for c in range(len(p)) if p[c][0] in tracks] for _, p, _ in steps]
        matches: dict[tuple[int, int], Any] = defaultdict(lambda: np.zeros(20))
        hits = np.zeros(20)
        for t, pairs in enumerate(pairs_of(steps, truths, columns)):
            g, p, s = steps[t]
            if exhaustive:
                wrong[k] += elsewhere[t]
                repaired[k] += elsewhere[t]
            out["loc_fn"][k] += len(truths[t])
            out["loc_fp"][k] += len(near[t])
            for r, c in pairs:
                hit = s[r, c] >= ALPHAS - EPSILON
                hits += hit
                out["loc_fn"][k] -= hit
                out["loc_fp"][k] -= hit & (c in near[t])
                matches[g[r][0], p[c][0]] += hit
                if p[c][1] == k:
                    out["cls_tp"][k] += hit[10:]
                else:
                    out["cls_fn"][k] += hit[10:]
                    if p[c][1] >= 0:
                        wrong[p[c][1]] += hit[10:]
                        repaired[p[c][1]] += hit[10:]
        out["loc_tp"][k] += hits
        for (truth, found), both in matches.items():
            n_g = sum(g[r][0] == truth for (g, _, _), rows in zip(steps, truths, strict=True) for r in rows)
            n_p = sum(one[0] == found for _, p, _ in steps for one in p)
            out["assoc_a"][k] += both * both / np.maximum(1, n_g + n_p - both)
            out["assoc_re"][k] += both * both / n_g
            out["assoc_pr"][k] += both * both / n_p
    out["cls_fp"] += wrong
    out["cls_fp_repaired"] += repaired
