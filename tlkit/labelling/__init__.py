"""Active learning: which of many images to label next."""
