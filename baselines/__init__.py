"""Baselines for comparison with published methods."""
