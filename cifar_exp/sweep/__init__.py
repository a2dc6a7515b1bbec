"""A sweep as one thing: its jobs, its parent run, its results."""
