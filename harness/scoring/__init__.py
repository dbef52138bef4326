"""Scoring: overlaps, matching, average precision, and the protocols declared over them."""
