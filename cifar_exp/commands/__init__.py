"""Commands of cifar-exp, one module each: `add` defines the arguments, `run` executes it and returns the exit code."""
