"""One run from its config to its logged results; resuming it, and reproducing a logged one."""
