"""Logistic regression: what the linear head of one class an image is solved by."""
