"""Read YAML, JSON, times and pictures from a store only within limits on size, depth and features.

Any user can log any content to a store, and a few hundred bytes of YAML aliases can expand to gigabytes.
"""

from __future__ import annotations

import json
import struct
from datetime import UTC, datetime
from typing import Any

import yaml

YAML_BYTES, _JSON_BYTES = 1 << 18, 1 << 20
_NODES, _DEPTH = 20_000, 40
_SCALAR = 10_000  # characters; parsing longer numbers takes too long
_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
# A day within what a datetime can hold, so that every time zone can show it.
_EARLIEST = datetime(1, 1, 2, tzinfo=UTC).timestamp()
_LATEST = datetime(9999, 12, 30, tzinfo=UTC).timestamp()
_PNG, _PNG_SIZE = b"\x89PNG\r\n\x1a\n", slice(16, 24)  # where its header has width and height
_MOST_PIXELS = 50_000_000  # of a picture
_STARTS = (yaml.SequenceStartEvent, yaml.MappingStartEvent)
_ENDS = (yaml.SequenceEndEvent, yaml.MappingEndEvent)


def parse_yaml(content: str) -> Any:
    """Parse a YAML document of at most 256 KB, 20,000 nodes and 40 levels, without aliases and tags.

    Raises:
        ValueError: if it is invalid or exceeds a limit; the message is one line.
    """
    _check_size(content, YAML_BYTES)
    nodes = depth = 0
    try:
        for event in yaml.parse(content, Loader=_LOADER):
            if isinstance(event, yaml.AliasEvent):
                raise ValueError(f"it holds the alias *{event.anchor}; aliases are refused, since they can expand")
            if isinstance(event, _ENDS):
                depth -= 1
            elif isinstance(event, yaml.NodeEvent):
                nodes += 1
                depth += isinstance(event, _STARTS)
                if event.tag is not None:  # type: ignore[attr-defined]
                    raise ValueError(f"it holds the tag {event.tag}; tags are refused")  # type: ignore[attr-defined]
                if isinstance(event, yaml.ScalarEvent) and len(event.value) > _SCALAR:
                    raise ValueError(f"it holds a value of {len(event.value):,} characters; at most {_SCALAR:,} fit")
            if nodes > _NODES or depth > _DEPTH:
                raise ValueError(f"it has more than {_NODES:,} values or {_DEPTH} levels")
        return yaml.load(content, Loader=_LOADER)
    except (yaml.YAMLError, OverflowError) as error:
        raise ValueError(str(error).splitlines()[0]) from error


def parse_json(content: str | bytes, limit: int = _JSON_BYTES) -> Any:
    """Parse a JSON document of at most 40 levels.

    Args:
        content: the document.
        limit: maximum size in bytes.

    Raises:
        ValueError: if it is invalid or exceeds a limit; the message is one line.
    """
    _check_size(content, limit)
    try:
        value = json.loads(content)
    except RecursionError as error:
        raise ValueError(f"it has more than {_DEPTH} levels") from error
    level: list[Any] = [value]
    for _ in range(_DEPTH):
        level = [child for one in level for child in _children(one)]
        if not level:
            return value
    raise ValueError(f"it has more than {_DEPTH} levels")


def moment(milliseconds: int | None) -> datetime:
    """The time of a number of milliseconds since 1970, or the nearest that a datetime can hold, in UTC."""
    return datetime.fromtimestamp(min(max((milliseconds or 0) / 1000, _EARLIEST), _LATEST), UTC)


def is_picture(content: bytes) -> bool:
    """Whether a file is a PNG picture that a browser can show. A few kilobytes can make it use gigabytes."""
    if not content.startswith(_PNG) or len(content) < _PNG_SIZE.stop:
        return False
    width, height = struct.unpack(">II", content[_PNG_SIZE])
    return bool(width * height <= _MOST_PIXELS)


def _children(value: object) -> list[Any]:
    if isinstance(value, dict):
        return list(value.values())
    return value if isinstance(value, list) else []


def _check_size(content: str | bytes, limit: int) -> None:
    if len(content) > limit:
        raise ValueError(f"it holds {len(content):,} bytes; at most {limit:,} are read")
