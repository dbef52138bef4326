"""Blocks of Mask2Former that CLIP-VIS and its baselines share: pixel decoder, masked transformer decoder."""
