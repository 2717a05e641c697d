"""A file to pixels: every format opened, upright, RGB 0..255, resized by one rule. Exported programs carry these modules."""
