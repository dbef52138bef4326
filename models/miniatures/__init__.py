"""Miniatures: the real models with small numbers, trained on generated data, their weights shipped in the package."""
