"""Files to pixels: finding images, decoding them, splitting them."""
