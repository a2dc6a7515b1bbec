"""Tests of the limits on YAML and JSON from a store."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from cifar_exp.config import composition
from cifar_exp.experiment.artifacts import _composable
from cifar_exp.tracking.untrusted import moment, parse_json, parse_yaml

LAUGHS = "a0: &a0 [lol, lol]\n" + "".join(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]\n" for n in range(1, 40))


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (LAUGHS, "alias"),
        ("a: &a [*a]", "alias"),
        ("a: &a {b: 1}\nc: {<<: *a}", "alias"),
        ("!!python/object/apply:os.system ['true']", "tag"),
        ("a: !!omap [{b: '${oc.env:HOME}'}]", "tag"),
        ("[" * 100_000, "levels"),
        ("- " * 100 + "a", "levels"),
        ("[" + "a," * 100_000 + "]", "values"),
        ("a: " + "b" * (1 << 18), "bytes"),
        ("a: " + "9" * 5_000, "digits"),
        ("a: " + "1:" * 50_000 + "1", "characters"),
        ("a: 2026-99-99", "month"),
        ("{", "flow"),
        ("\x00", "special characters|unacceptable character|control characters"),
    ],
)
def test_yaml_beyond_the_limits_is_refused_in_one_line(content: str, says: str) -> None:
    with pytest.raises(ValueError, match=says) as refused:
        parse_yaml(content)
    assert "\n" not in str(refused.value)


def test_every_model_of_the_project_is_within_the_limits() -> None:
    models = sorted(path.stem for path in Path(composition.CONF, "model").glob("*.yaml"))
    for config in composition.plan([f"model={','.join(models)}"], multirun=True).jobs:
        content = _composable(config)
        assert parse_yaml(yaml.safe_dump(content)) == yaml.safe_load(yaml.safe_dump(content))


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("[" * 1_000_000, "levels"),
        ("[" * 50 + "]" * 50, "levels"),
        ('{"a":' * 50 + "1" + "}" * 50, "levels"),
        ("[" + "1," * 1_000_000 + "1]", "bytes"),
        ("9" * 5_000, "digits"),
        (b"\xff\xfe\xfd", "decode|codec"),
        ("{", "Expecting"),
    ],
)
def test_json_beyond_the_limits_is_refused(content: str | bytes, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        parse_json(content)


def test_json_within_the_limits_is_parsed() -> None:
    assert parse_json('{"classes": ["a"], "matrix": [[1]]}') == {"classes": ["a"], "matrix": [[1]]}


@pytest.mark.parametrize(
    ("milliseconds", "shown"),
    [(None, "1970-01-01"), (1_800_000_000_000, "2027-01-15"), (10**17, "9999-12-30"), (-(10**17), "0001-01-02")],
)
def test_every_number_of_milliseconds_is_a_time(milliseconds: int | None, shown: str) -> None:
    assert moment(milliseconds).date().isoformat() == shown
    assert moment(milliseconds).astimezone().tzinfo
