"""What `import cifar_exp` offers a notebook: the runs of the command line, called from Python."""

from cifar_exp.notebook.calls import find, sweep, train
from cifar_exp.notebook.runs import Run, Runs

__all__ = ["Run", "Runs", "find", "sweep", "train"]
