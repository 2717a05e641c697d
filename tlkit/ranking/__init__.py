"""Which backbone suits a set of images, and the gain from more images, from features alone."""
