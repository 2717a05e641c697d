"""What to label next: which of many images a person should look at first."""
