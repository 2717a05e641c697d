"""Where a classifier looks: evidence maps by two methods, their agreement, pictures, nearest training images."""
