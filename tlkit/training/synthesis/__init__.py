"""Synthetic features, drawn so that every class is as large as the largest."""
