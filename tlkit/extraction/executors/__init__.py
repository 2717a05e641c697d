"""Where lacking rows are computed: in this process, or by the workers of a Ray cluster."""
