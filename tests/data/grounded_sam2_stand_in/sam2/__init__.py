"""A stand-in for SAM 2: what examples/wrap_grounded_sam2.py calls."""
