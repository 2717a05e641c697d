"""Logistic regression, which solves the linear head of one class per image."""
