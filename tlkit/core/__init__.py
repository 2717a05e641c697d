"""The nouns every layer shares. Cold: nothing here imports Keras, TensorFlow, pandas, scikit-learn or Pillow."""
