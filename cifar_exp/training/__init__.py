"""Building and training a Keras model."""
