"""From predictions to results."""
