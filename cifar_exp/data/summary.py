"""An analysis of a data set in words: what is remarkable about it, and the text that cifar-exp data prints."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from cifar_exp.data.analysis import TRAINING
from cifar_exp.data.listing import first_of
from cifar_exp.errors import shorten

_SHOWN_CLASSES = 20  # rows of the printed table
_SHOWN_COPIES = 5  # that a line names


def remarks(found: Mapping[str, Any], refusals: Sequence[str] = ()) -> list[str]:
    """What is remarkable, a line each, the most important first.

    Args:
        found: as `analysis.analyse` gives it.
        refusals: why a run would be refused.
    """
    lines = [*(f"A run would be refused: {reason}" for reason in refusals), *found["remarks"]]
    if bad := found["bad"]["images"]:
        named = first_of([f"{name} ({why})" for name, why in bad])
        lines.append(f"Images that cannot be read, which data.bad_images=skip leaves out: {len(bad):,}: {named}")
    equal = "with the same pixels as training images"
    lines += filter(None, [_leak(found["duplicates"], equal), near_duplicates(found)])
    return lines


def near_duplicates(found: Mapping[str, Any]) -> str | None:
    """The images that validate or test and show the same as a training image, in a line; `None` if there are none."""
    return _leak(found["near_duplicates"], "that look the same as training images")


def _leak(copies: Mapping[str, Any], what: str) -> str | None:
    counts = [f"{count:,} {split}" for split, count in copies["held_out"].items() if count]
    if not counts:
        return None
    named = []
    for group in copies["listed"]:
        learned = next((one for one in group["members"] if one["split"] == TRAINING), None)
        held_out = next((one for one in group["members"] if one["split"] != TRAINING), None)
        if learned and held_out:
            named.append(f"{_name(held_out)} ~ {_name(learned)}")
    named = named[:_SHOWN_COPIES]
    rest = sum(copies["held_out"].values()) - len(named)
    return f"Images {what}: {' and '.join(counts)}: {', '.join(named)}{f' and {rest:,} more' if rest else ''}"


def _name(one: Mapping[str, Any]) -> str:
    is_file = one["name"] != f"{one['split']} image {one['index']}"
    return f"{one['name']} ({one['split']})" if is_file else one["name"]


def text(found: Mapping[str, Any], files: Mapping[str, Any] | None, refusals: Sequence[str] = ()) -> str:
    """The analysis as lines for the terminal.

    Args:
        found: as `analysis.analyse` gives it.
        files: as `headers.summarize` gives it, if the data set is made of files.
        refusals: why a run would be refused.
    """
    height, width, channels = found["shape"]
    shape = f"{height} x {width} x {channels}"
    lines = [f"{found['name']}: {found['images']:,} images of {shape} in {len(found['classes'])} classes"]
    lines += [f"from {found['source']}", "", *_table(found), ""]
    lines += [f"{name:<18}{value}" for name, value in facts(found, files)]
    said = remarks(found, refusals)
    return "\n".join([*lines, *([""] if said else []), *said])


def facts(found: Mapping[str, Any], files: Mapping[str, Any] | None) -> list[tuple[str, str]]:
    """What is known of the images, as names and values."""
    rows = []
    if files:
        rows += [(name, _counted(files[name])) for name in ("formats", "modes") if files[name]]
        if files["different_sizes"]:
            sides = [f"{name} {_range(files[name])}" for name in ("width", "height")]
            rows.append(("sizes", f"{', '.join(sides)}, {files['different_sizes']:,} different"))
            common = [f"{width} x {height} ({count:,})" for width, height, count in files["sizes"][:5]]
            rows.append(("most common", ", ".join(common)))
    rows += [("mean", _numbers(found["mean"])), ("std", _numbers(found["std"]))]
    for key, name in (("duplicates", "duplicates"), ("near_duplicates", "near duplicates")):
        copies = found[key]
        across = f"; across splits: {copies['across_splits']:,}" if copies["across_splits"] else ""
        rows.append(
            (
                name,
                f"groups: {copies['groups']:,}, of {copies['images']:,} images{across}"
                if across or copies["groups"]
                else "none",
            )
        )
    rows.append(("unreadable", f"{found['bad']['count']:,}" if found["bad"]["count"] else "none"))
    return rows


def _table(found: Mapping[str, Any]) -> list[str]:
    """Images of each class and split."""
    counts, classes = found["counts"], found["classes"]
    names = [shorten(name, 30) for name in classes[:_SHOWN_CLASSES]]
    width = max(map(len, [*names, "class", "all"])) + 2
    splits = sorted(counts, key=lambda split: split != TRAINING)
    lines = [f"{'class':<{width}}" + "".join(f"{split:>12}" for split in splits)]
    for label, name in enumerate(names):
        lines.append(f"{name:<{width}}" + "".join(f"{counts[split][label]:>12,}" for split in splits))
    if hidden := len(classes) - len(names):
        lines.append(f"... {hidden:,} more classes")
    return [*lines, f"{'all':<{width}}" + "".join(f"{sum(counts[split]):>12,}" for split in splits)]


def _counted(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{name} ({count:,})" for name, count in counts.items())


def _range(of: Mapping[str, float]) -> str:
    return f"{of['min']:g} to {of['max']:g} (median {of['median']:g})" if of["min"] < of["max"] else f"{of['min']:g}"


def _numbers(values: Sequence[float]) -> str:
    return ", ".join(f"{value:.2f}" for value in values)
