"""Sample datasets: made on the spot with no network, or fetched by a recipe."""
