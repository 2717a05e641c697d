"""Vision transformers in Keras's own layers with the weights of KerasHub's, so that their files load in plain Keras."""
