"""Operators with several implementations: deformable attention."""

from harness.models.ops.deform_attn import deformable_attention, fused_deformable_attention

__all__ = ["deformable_attention", "fused_deformable_attention"]
