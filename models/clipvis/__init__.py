"""CLIP-VIS: open-vocabulary video instance segmentation with a frozen CLIP (Zhu et al., TCSVT 2024)."""
