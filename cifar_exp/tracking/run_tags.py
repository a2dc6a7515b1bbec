"""The tags of a run. docs/tracking.md lists them; `review.*` are those of `cifar_exp.review`."""

from __future__ import annotations

# What it is
KIND = "cifar_exp.kind"  # a training has none
SWEEP_KIND, ENSEMBLE_KIND = "sweep", "ensemble"
EVALUATION_KIND, EXPLANATION_KIND = "evaluation", "explanation"
SWEEP = "cifar_exp.sweep"  # name of its sweep, or of the one that it is the parent of
JOB = "cifar_exp.job"  # number in the sweep
TRIAL = "cifar_exp.trial"  # number in the search
CONFIRMS = "cifar_exp.confirms"  # number of the trial that it repeats with another seed
EVALUATES, EXPLAINS = "cifar_exp.evaluates", "cifar_exp.explains"  # id of the run that it is about
MEMBERS = "cifar_exp.ensemble"  # JSON: id of a member -> its weight

# What decided its result
FINGERPRINT = "cifar_exp.fingerprint"
OVERRIDES = "cifar_exp.overrides"  # as a shell takes them
COMMAND = "cifar_exp.command"  # only if it was no `python -m cifar_exp` with these overrides
REPRODUCES = "cifar_exp.reproduces"  # id of a run
START_FROM = "cifar_exp.start_from"  # id of a run, or a file
GIT_COMMIT = "cifar_exp.git_commit"
GIT_DIRTY = "cifar_exp.git_dirty"  # true, false or unknown
BACKEND = "cifar_exp.backend"
DEVICE = "cifar_exp.device"
PACKAGES = "cifar_exp.packages"  # JSON: what it uses of installed packages

# How it ended
OUTCOME = "cifar_exp.outcome"
RUNNING, COMPLETED = "running", "completed"
COLLAPSED = "collapsed"  # no better than chance
DIVERGED = "diverged"  # a loss that is not finite; never resumed, since it would diverge again
FAILED, INTERRUPTED = "failed", "interrupted"
PRUNED = "pruned"  # paused by a search: it has finished, but can go on
REASON = "cifar_exp.reason"  # why it was interrupted, written by another process
WARNING = "cifar_exp.warning"  # why its result is not to be trusted

# Who writes it
JOURNAL = "cifar_exp.journal"  # key of its journal
PROCESS = "cifar_exp.process"
HEARTBEAT = "cifar_exp.heartbeat"  # when this process was last alive
