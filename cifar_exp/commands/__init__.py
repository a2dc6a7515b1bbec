"""The commands of cifar-exp, a module each: `add` says what it takes, `run` does it and gives the exit code."""
