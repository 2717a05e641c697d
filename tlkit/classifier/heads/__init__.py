"""Grid in, logits out: small Keras models, one file for each kind."""
