"""What is wrong with a set of images: one file for each check, over features, file facts and labels."""
