"""Predictions, scores and figures of a trained model."""
