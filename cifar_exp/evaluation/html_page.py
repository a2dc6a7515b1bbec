"""Pages that are one HTML file: they load nothing, and run no scripts but their own."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Sequence
from importlib import resources
from typing import Any

_BASE = "cifar_exp.evaluation"  # the package with base.html and base.css


def render(package: str, name: str, libraries: Sequence[str] = (), **values: Any) -> str:
    """Fill in a template that extends `base.html`. Values are escaped, as they are data.

    Args:
        package: whose folder `page` holds `NAME.html`, its style `NAME.css` and, if it has one, its script `NAME.js`.
        name: of these files.
        libraries: scripts that run before its own.
        values: what the template shows; `title` among them.

    Returns:
        The page as HTML.
    """
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    with (
        resources.as_file(resources.files(_BASE) / "page") as base,
        resources.as_file(resources.files(package) / "page") as own,
    ):
        environment = Environment(
            loader=FileSystemLoader([own, base]), autoescape=True, undefined=StrictUndefined, trim_blocks=True
        )
        styles = [base / "base.css", own / f"{name}.css"]
        script = own / f"{name}.js"
        scripts = [*libraries, *([script.read_text(encoding="utf-8")] if script.exists() else [])]
        return environment.get_template(f"{name}.html").render(
            values,
            css="".join(style.read_text(encoding="utf-8") for style in styles),
            scripts=scripts,
            policy=_policy(scripts),
        )


def _policy(scripts: Sequence[str]) -> str:
    """Content security policy that allows these scripts only, by their hashes; they may draw pictures."""
    images = "img-src data: blob:" if scripts else "img-src data:"
    policy = f"default-src 'none'; {images}; style-src 'unsafe-inline'"
    hashes = [base64.b64encode(hashlib.sha256(script.encode()).digest()).decode() for script in scripts]
    return policy + ("; script-src " + " ".join(f"'sha256-{one}'" for one in hashes) if hashes else "")
