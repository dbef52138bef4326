"""Models and their shared building blocks."""
