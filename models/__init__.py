"""Models, and the blocks they share."""
