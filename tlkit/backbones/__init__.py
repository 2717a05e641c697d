"""Pixels in, grid out: pretrained networks with their preprocessing inside."""
