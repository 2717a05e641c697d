"""Results to one offline page."""
