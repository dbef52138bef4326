"""Backbones: CLIP image towers, ResNet and Swin, named as in the released checkpoints."""
