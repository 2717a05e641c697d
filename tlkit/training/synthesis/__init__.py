"""Features of images that were never taken: drawn so that every class is as large as the largest."""
