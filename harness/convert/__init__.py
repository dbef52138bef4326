"""Masks and tracks from and to the forms of other tools."""
