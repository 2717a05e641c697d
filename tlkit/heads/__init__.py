"""Grid in, logits out: small Keras models."""
