"""A classifier behind an HTTP API and a web page: limits, dynamic batching, errors with remedies."""
