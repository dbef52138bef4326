"""A run's folder: its files, its lock, its predictions, and what identifies it."""
