"""Errors in YAML files of conf/ or --config-dir, with file and line."""

from __future__ import annotations

import traceback
from pathlib import Path

import yaml


def problem(error: BaseException) -> str | None:
    """Describe an error that Hydra raised while it read a YAML file.

    Returns:
        One line with the file, the line number and what was found; None for other errors.
    """
    if isinstance(error, yaml.MarkedYAMLError) and (mark := error.problem_mark or error.context_mark):
        found = " ".join(f"{error.problem or error.context}".split())
        return f"{_file(error) or mark.name}, line {mark.line + 1}: {found}"
    file = _file(error)
    if isinstance(error, yaml.reader.ReaderError) and file:
        line = file.read_text(encoding="utf-8").count("\n", 0, error.position) + 1
        return f"{file}, line {line}: found the character {chr(error.character)!r}, which YAML does not allow"
    if isinstance(error, UnicodeDecodeError) and file:
        return f"{file}, {_undecodable(file.read_bytes())}; save the file as UTF-8"
    return None


def _file(error: BaseException) -> Path | None:
    """Return the file that Hydra was reading, which errors about bytes and characters do not name."""
    for frame, _ in traceback.walk_tb(error.__traceback__):
        if frame.f_code.co_name == "load_config" and isinstance(path := frame.f_locals.get("full_path"), str):
            return Path(path)
    return None


def _undecodable(content: bytes) -> str:
    """Describe the first byte that is not UTF-8."""
    try:
        content.decode()
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        return f"line {line}: found the byte 0x{content[error.start]:02X}, which is not UTF-8"
    return "it is not UTF-8"
