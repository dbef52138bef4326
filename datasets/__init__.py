"""Datasets: one short file each."""
