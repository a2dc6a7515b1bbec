"""What a run logs, and how it gets to MLflow."""
