"""One classifier behind an HTTP API and a page: limits, dynamic batches, errors that say what to do."""
