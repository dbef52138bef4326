"""Training: sets of annotated images, their augmentation and order, and the loop that trains any model on them."""
