"""The folder of a run: its files, lock, predictions and identity."""
