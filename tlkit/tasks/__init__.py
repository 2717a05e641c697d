"""The meaning of a head's outputs: one class per image, or several labels."""
