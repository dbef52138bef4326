"""Engines: who runs a model over a dataset's videos."""
