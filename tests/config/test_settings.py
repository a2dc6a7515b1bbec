"""docs/settings.md: the page that is generated from the schema."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import fields, is_dataclass
from pathlib import Path

from cifar_exp.config import settings
from cifar_exp.config.schema import Config

PAGE = Path(__file__).parent.parent.parent / "docs" / "settings.md"


def described(schema: type, prefix: str = "") -> Iterator[tuple[str, str]]:
    """Every setting of the schema with its description."""
    for setting in fields(schema):
        if isinstance(setting.default_factory, type) and is_dataclass(setting.default_factory):
            yield from described(setting.default_factory, f"{prefix}{setting.name}.")
        else:
            yield f"{prefix}{setting.name}", setting.metadata.get("doc", "")


def test_the_page_is_what_the_schema_and_conf_say_now() -> None:
    assert PAGE.read_text() == settings.page(), "stale: python -m cifar_exp.config.settings > docs/settings.md"


def test_every_setting_has_a_description_and_a_row() -> None:
    all_settings = dict(described(Config))
    assert [key for key, doc in all_settings.items() if not doc.endswith(".")] == []
    rows = re.findall(r"^\| `([a-z_0-9.]+)` \|.*\|$", PAGE.read_text(), re.M)
    assert set(all_settings) - {"model"} <= set(rows)


def test_a_row_tells_type_default_values_and_the_defaults_of_other_choices() -> None:
    rows = dict(re.findall(r"^\| `([a-z_0-9.]+)` \| (.*) \|$", PAGE.read_text(), re.M))
    assert rows["optimizer.momentum"].startswith(
        "float or null | `null`; `0.95` with muon, muon_conv; `0.0` with rmsprop, sgd | at least 0, at most 1"
    )
    assert rows["data.verify"].startswith("str | `md5` | `md5`, `size` | ")
    assert rows["training.epochs"].startswith("int | `10` | at least 1 | ")
