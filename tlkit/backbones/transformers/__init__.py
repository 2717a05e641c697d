"""Vision transformers of Keras's own layers, and the weights of KerasHub's in them: files of them load in plain Keras."""
