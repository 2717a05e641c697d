"""Every flag, name, range and help text. Cold."""
