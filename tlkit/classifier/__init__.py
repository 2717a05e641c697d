"""Classifiers: one graph from images to logits, its file, its predictions, its familiarity with images, its heads."""
