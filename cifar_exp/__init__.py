"""Hydra composes an experiment, Keras trains it, MLflow remembers it."""

__version__ = "0.1.0"
