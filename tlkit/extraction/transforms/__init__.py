"""Dimensionality reduction of features: each transform is a class and one row of `TRANSFORMS`."""
