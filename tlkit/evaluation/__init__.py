"""Predictions to results."""
