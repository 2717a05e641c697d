"""Which backbone suits a set of images, and what more images would bring, from features alone."""
