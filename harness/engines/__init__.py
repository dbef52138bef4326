"""Engines: they run a model over the videos of a dataset, in this process, in worker processes or on Ray."""
