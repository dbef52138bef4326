"""Quirks of official tools that change numbers, each as a named flag.

``True`` reproduces the official tool; a corrected protocol has them off. Numbers are those of the protocol reference
in ``docs/protocols.md``.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace


@dataclass(frozen=True, slots=True)
class Quirks:
    """The quirks of an evaluator. Off is the corrected rule, given after the semicolon."""

    truth_reusable: bool = False
    """3.1 A matched truth does not block: further tracks of the same object are hits too; a truth is found once."""
    id_zero_unseen: bool = True
    """3.2 A match with annotation id 0 reads as no match; it counts."""
    areas_are_zero: bool = False
    """3.3 Every average area is 0, so all tracks are small; areas come from the file, or from its masks."""
    areas_cut_to_int: bool = False
    """3.4 Entries of ``areas`` are cut to integers before they are averaged; they are used as they are."""
    groups_by_position: bool = False
    """3.5 A group's categories are looked up at position id - 1 of the sorted list; by their id."""
    crowd_counts: bool = False
    """3.6 Crowd truths count as ordinary positives and can be found many times; they are ignored."""
    shorter_list_wins: bool = True
    """3.7 Frames that a track leaves out at its end are not counted; they count as absent masks."""
    wrong_size_vanishes: bool = True
    """3.8 A frame in which sizes differ adds nothing to the IoU; a mask of a wrong size counts as absent."""
    empty_truth_counts: bool = True
    """3.9 An annotated track without any mask is a positive that cannot be found; it is left out."""
    ties_by_file_order: bool = True
    """3.10 Equal scores rank in file order; they enter the curve together."""
    cap_per_category: bool = True
    """3.11 The cap of 100 tracks holds per video and category; per video."""
    repeated_id_replaces: bool = True
    """3.12 Of annotations with one id only the last counts; each counts by itself."""
    absent_categories_free: bool = True
    """3.13 Tracks of categories without any truth cost nothing; such a category scores 0. Average precision is not
    defined without positives, so corrected protocols keep this one and the number of such tracks is reported."""
    epsilon_in_precision: bool = True
    """3.14 Precision has 2.2e-16 added to its denominator; it has not."""

    def corrected(self) -> Quirks:
        """All off but `absent_categories_free`."""
        off = replace(self, **{f.name: False for f in fields(self)})
        return replace(off, absent_categories_free=True)
