"""What the numbers of a head mean: one class an image, or several labels."""
