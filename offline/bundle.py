"""Pack a folder from which cifar_exp is installed on a machine without a package index: `make bundle`.

    python offline/bundle.py [--has FILE] [--python 3.12] [--target build/bundle]

The folder gets the wheel of this checkout, the wheels of all that it requires in the versions that are installed here,
and `install`. Left out are TensorFlow, what only servers and reports need, and every package in FILE, the output of
`pip freeze` on the other machine. So that machine needs JAX or PyTorch; it runs Linux on an x86-64 processor.
"""

from __future__ import annotations

import argparse
import re
import shutil
import subprocess
import sys
from importlib.metadata import distribution, version
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parent.parent
LEFT_OUT = {
    "tensorflow",
    "plotly",  # charts of reports
    *("docker", "flask-cors", "google-auth", "graphene", "gunicorn", "huey", "skops"),  # of MLflow
}


def requirements(python: str, present: set[str]) -> list[str]:
    """List what cifar_exp requires, as `name==version` of the packages that are installed here.

    Args:
        python: version of Python on the other machine, such as `3.12`.
        present: normalized names of packages that are there already.
    """
    found: dict[str, str] = {}
    waiting: list[tuple[str, tuple[str, ...]]] = [("cifar-exp", ())]
    while waiting:
        name, extras = waiting.pop()
        for line in distribution(name).requires or ():
            needed = Requirement(line)
            there = [{"extra": extra, "python_version": python} for extra in (*extras, "")]
            if needed.marker and not any(map(needed.marker.evaluate, there)):
                continue
            required = str(canonicalize_name(needed.name))
            if required not in LEFT_OUT | present | found.keys():
                found[required] = version(required)
                waiting.append((required, tuple(needed.extras)))
    return [f"{name}=={found[name]}" for name in sorted(found)]


def names(frozen: str) -> set[str]:
    """Normalized names of the packages in the output of `pip freeze`, or in a list with one name in a line."""
    lines = (line.split("#")[0].strip() for line in frozen.splitlines())
    found = (re.match(r"[\w.-]+", line) for line in lines if not line.startswith("-"))
    return {str(canonicalize_name(match[0])) for match in found if match}


def pack(target: Path, python: str, present: set[str]) -> None:
    """Fill the folder; what it held before is removed."""
    shutil.rmtree(target, ignore_errors=True)
    wheels = target / "wheels"
    wheels.mkdir(parents=True)
    needed = requirements(python, present)
    platforms = [f"manylinux_2_{minor}_x86_64" for minor in range(17, 40)] + ["manylinux2014_x86_64"]
    fitting = ["--python-version", python, *(part for one in platforms for part in ("--platform", one))]
    download = ["download", "--quiet", "--no-deps", "--dest", str(wheels), "--only-binary=:all:", *fitting]
    if _pip(*download, *needed, check=False):
        for one in needed:  # a package may have no wheel: it is built here
            if _pip(*download, one, check=False, quiet=True):
                _pip("wheel", "--quiet", "--no-deps", "--wheel-dir", str(wheels), one)
    _pip("wheel", "--quiet", "--no-deps", "--wheel-dir", str(wheels), str(ROOT))
    shutil.copy2(ROOT / "offline" / "install", target)
    size = sum(file.stat().st_size for file in wheels.iterdir()) / 1e6
    print(f"{target}: {len(list(wheels.iterdir()))} wheels, {size:.0f} MB. Copy it there, and run its `install`.")


def _pip(*arguments: str, check: bool = True, quiet: bool = False) -> int:
    errors = subprocess.DEVNULL if quiet or not check else None
    return subprocess.run([sys.executable, "-m", "pip", *arguments], check=check, stderr=errors).returncode


def main() -> None:
    """Read the arguments and pack."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--has", type=Path, metavar="FILE", help="output of `pip freeze` on the other machine")
    here = f"{sys.version_info.major}.{sys.version_info.minor}"
    parser.add_argument("--python", default=here, help=f"version of Python on the other machine (default: {here})")
    parser.add_argument("--target", type=Path, default=ROOT / "build" / "bundle", metavar="FOLDER")
    arguments = parser.parse_args()
    pack(arguments.target, arguments.python, names(arguments.has.read_text()) if arguments.has else set())


if __name__ == "__main__":
    main()
