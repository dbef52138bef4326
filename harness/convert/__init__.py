"""Conversion of masks and tracks from and to the formats of other tools."""
