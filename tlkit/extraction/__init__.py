"""Frozen activations, computed once: extraction, the store, tables."""
