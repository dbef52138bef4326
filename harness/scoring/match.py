"""Greedy matching of predicted to annotated tracks by descending score, and precision at 101 recall points.

One kernel per category serves every protocol; arrays and three flags hold the differences between protocols.
"""

from __future__ import annotations

import numba
import numpy as np

IOU_THRESHOLDS = np.linspace(0.5, 0.95, 10)
"""0.5 to 0.95 as the official tools compute them: start + i * step, so the ninth is 0.8999999999999999."""
RECALL_POINTS = 0.01 * np.arange(101)
"""0 to 1 as i * 0.01, which at ten points is one floating-point step above i / 100."""


@numba.njit(cache=True, nogil=True)
def match_tracks(iou, ignored, reusable, thresholds, track_match, truth_match):
    """Match the tracks of one video and category at each IoU threshold.

    ``iou (tracks, truths)`` has tracks by descending score and truths in file order; ``ignored`` truths are taken
    only when no other fits; a ``reusable`` truth may be taken again. Fills ``track_match (thresholds, tracks)`` with
    the truth taken, or -1, and ``truth_match (thresholds, truths)`` with the last track that took it, or -1.

    Among truths of equal IoU the later one is taken (COCO's rule, ``cocoeval``'s ``evaluateImg``).
    """
    order, n = np.empty(len(ignored), np.int64), 0  # numba's sorts take a second and more to compile
    for later in range(2):
        for truth in range(len(ignored)):
            if ignored[truth] == (later == 1):
                order[n] = truth
                n += 1
    track_match[:] = -1
    truth_match[:] = -1
    for t in range(len(thresholds)):
        for d in range(iou.shape[0]):
            best = min(thresholds[t], 1 - 1e-10)
            found = np.int64(-1)
            for g in order:
                if truth_match[t, g] >= 0 and not reusable[g]:
                    continue
                if found >= 0 and not ignored[found] and ignored[g]:
                    break
                if iou[d, g] < best:
                    continue
                best = iou[d, g]
                found = g
            if found >= 0:
                track_match[t, d] = found
                truth_match[t, found] = d


@numba.njit(cache=True, nogil=True)
def precision_at(hit, miss, score, positives, recall_points, epsilon, join_ties, precision, scores):
    """Fill the precision at every recall point, and the score there; return the recall reached.

    ``hit``, ``miss`` and ``score (tracks,)`` are of tracks by descending score. ``precision`` and ``scores (recall
    points,)`` hold zeros before; each may be empty, and is then not filled. The recall points ascend.
    """
    m = len(hit)
    if scores.size == 0 and not hit.any():
        return 0.0
    rc, pr = np.zeros(m), np.zeros(m)
    tp, fp = 0.0, 0.0
    for i in range(m):
        tp += hit[i]
        fp += miss[i]
        rc[i] = tp / positives
        total = fp + tp + epsilon
        pr[i] = tp / total if total > 0 else 0.0
    if join_ties:  # tracks of equal score enter together: no threshold separates them
        for i in range(m - 2, -1, -1):
            if score[i] == score[i + 1]:
                rc[i], pr[i] = rc[i + 1], pr[i + 1]
    reached = rc[m - 1] if m else 0.0
    if precision.size == 0:
        return reached
    for i in range(m - 2, -1, -1):
        pr[i] = max(pr[i], pr[i + 1])
    i = 0
    for q in range(len(recall_points)):
        while i < m and rc[i] < recall_points[q]:
            i += 1
        if i >= m:
            break
        precision[q] = pr[i]
        if scores.size:
            scores[q] = score[i]
    return reached


@numba.njit(cache=True, nogil=True)
def score_categories(
    categories, pair_first, pair_tracks, pair_truths, iou_offset, iou, truth_local, truth_ignored, truth_reusable,
    truth_unseen, score, order, rank, outside, caps, precision_caps, thresholds, recall_points, epsilon, join_ties,
    positives, precision, scores, recall, hits, misses,
):  # fmt: skip
    """Match and accumulate the categories ``categories (n,)``; results go to their rows.

    Pairs of category ``k`` are ``pair_first[k]:pair_first[k + 1]``, by ascending video; pair ``p`` has the tracks
    ``pair_tracks[p]:pair_tracks[p + 1]`` and the truths ``pair_truths[p]:pair_truths[p + 1]``. Ranges (of area,
    occlusion, length) are the first axis of ``truth_ignored`` and ``outside``: an unmatched track outside is ignored.
    ``order (tracks,)`` has the tracks of each category by descending score; ``rank`` is a track's place for the caps.
    A match with a ``truth_unseen`` truth does not count as one.

    Fills ``positives (categories, ranges)``, ``precision`` and ``scores (thresholds, recall points, categories,
    ranges, precision caps)`` and ``recall (thresholds, categories, ranges, caps)``; and for the first range the bit
    of every threshold at which a track counts as a hit or a miss in ``hits`` and ``misses (tracks,)``.
    """
    n_thresholds = len(thresholds)
    nothing = np.empty((1, 0))[:, 0]
    for k in categories:
        first, last = pair_first[k], pair_first[k + 1]
        base = pair_tracks[first]
        n = pair_tracks[last] - base
        hit = np.zeros((n_thresholds, n), np.bool_)
        miss = np.zeros((n_thresholds, n), np.bool_)
        kept, value = np.empty(n, np.int64), np.empty(n)
        hit_of, miss_of = np.empty(n, np.bool_), np.empty(n, np.bool_)
        for r in range(truth_ignored.shape[0]):
            for p in range(first, last):
                d0, d1 = pair_tracks[p], pair_tracks[p + 1]
                g0, g1 = pair_truths[p], pair_truths[p + 1]
                ious = np.zeros((d1 - d0, g1 - g0))
                for d in range(d0, d1):
                    for g in range(g0, g1):
                        ious[d - d0, g - g0] = iou[iou_offset[d] + truth_local[g]]
                for g in range(g0, g1):
                    positives[k, r] += not truth_ignored[r, g]
                track_match = np.empty((n_thresholds, d1 - d0), np.int64)
                truth_match = np.empty((n_thresholds, g1 - g0), np.int64)
                ignored = truth_ignored[r, g0:g1]
                match_tracks(ious, ignored, truth_reusable[g0:g1], thresholds, track_match, truth_match)
                for t in range(n_thresholds):
                    for d in range(d0, d1):
                        g = track_match[t, d - d0]
                        seen = g >= 0 and not truth_unseen[g0 + g]
                        dropped = (g >= 0 and ignored[g]) or (not seen and outside[r, d])
                        hit[t, d - base] = seen and not dropped
                        miss[t, d - base] = not seen and not dropped
            if r == 0:
                for t in range(n_thresholds):
                    for d in range(n):
                        hits[base + d] |= hit[t, d] << t
                        misses[base + d] |= miss[t, d] << t
            if positives[k, r] == 0:
                continue
            for c in range(len(caps)):
                at = -1
                for i in range(len(precision_caps)):
                    if precision_caps[i] == caps[c]:
                        at = i
                if at < 0:
                    for t in range(n_thresholds):
                        hits_within = 0
                        for d in range(n):
                            hits_within += hit[t, d] and rank[base + d] < caps[c]
                        recall[t, k, r, c] = hits_within / positives[k, r]
                    continue
                m = 0
                for i in range(base, base + n):
                    if rank[order[i]] < caps[c]:
                        kept[m], value[m] = order[i] - base, score[order[i]]
                        m += 1
                for t in range(n_thresholds):
                    for i in range(m):
                        hit_of[i], miss_of[i] = hit[t, kept[i]], miss[t, kept[i]]
                    recall[t, k, r, c] = precision_at(
                        hit_of[:m],
                        miss_of[:m],
                        value[:m],
                        positives[k, r],
                        recall_points,
                        epsilon,
                        join_ties,
                        precision[t, :, k, r, at],
                        scores[t, :, k, r, at] if scores.size else nothing,
                    )
