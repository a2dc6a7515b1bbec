"""The program, as `python -m show_shards ARGUMENTS`, and a last line with the number of shards of a batch."""

from __future__ import annotations

import sys

from cifar_exp import __main__
from cifar_exp.training import threads

if __name__ == "__main__":
    code = __main__.main()
    print("shards:", threads.shards())
    sys.exit(code)
