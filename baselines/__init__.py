"""Baselines that published methods are compared with."""
