"""One graph from images to logits, its file, its answers, its familiarity with images, its heads."""
