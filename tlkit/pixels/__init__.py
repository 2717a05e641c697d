"""Decode files to pixels: every format, upright, RGB 0..255, one resize. Exported programs include these modules."""
