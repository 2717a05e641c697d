"""Stages: what learns, at which rate, for how long, from where it can be resumed."""
