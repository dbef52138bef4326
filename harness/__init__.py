"""Benchmark and evaluation harness for open-vocabulary video instance segmentation.

Importing this package imports nothing heavy; torch is loaded only by a model that needs it.
"""

__version__ = "0.1.0"
