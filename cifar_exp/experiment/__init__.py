"""One run from its config to its logged results; resuming runs, and reproducing logged ones."""
