"""Operators behind one door each: deformable attention."""
