"""Choosing what to try next: a search over settings on Optuna, whose trials are the jobs of a sweep."""
