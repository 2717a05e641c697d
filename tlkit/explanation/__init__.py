"""Where a classifier looks: evidence maps by two methods, how far they agree, pictures, nearest training images."""
