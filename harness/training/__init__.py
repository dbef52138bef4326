"""Training: annotated image sets, augmentation, sampling, and a training loop for any model."""
