"""A list of layers: parsed, written back and walked through; what is no such list is refused by its position."""

from __future__ import annotations

from typing import Any

import pytest

from cifar_exp.config.layers import Layer, in_order, kinds, mixes_images, parse, to_entries
from cifar_exp.errors import UserError

WRITTEN: list[list[Any]] = [
    [{"Conv2D": {"filters": 8, "kernel_size": [5, 2], "strides": 2}}, "Flatten"],
    [
        {
            "Residual": {
                "layers": [{"Conv2D": {"filters": 8, "kernel_size": 3, "padding": "same"}}, "ReLU"],
                "shortcut": [{"Conv2D": {"filters": 8, "kernel_size": 1}}],
            }
        },
        "MaxPooling2D",
    ],
    [{"Gate": {"layers": [{"GlobalAveragePooling2D": {"keepdims": True}}, {"Dense": {"units": 3}}]}}],
    [{"Repeat": {"times": 2, "layers": [{"Conv2D": {"filters": 8, "kernel_size": 3}}, "MaxPooling2D"]}}],
    [{"Repeat": {"times": 0, "layers": ["MaxPooling2D"]}}, "Flatten"],
]


@pytest.mark.parametrize("entries", WRITTEN, ids=str)
def test_parsing_and_writing_back_gives_the_same_layers(entries: list[Any]) -> None:
    layers = parse(entries, "m")
    assert parse(to_entries(layers), "m") == layers
    assert to_entries(layers) == entries


def test_a_layer_without_arguments_may_be_written_in_three_ways() -> None:
    assert parse(["Flatten", {"Flatten": None}, {"Flatten": {}}], "m") == (Layer("Flatten"),) * 3


@pytest.mark.parametrize("entries", [None, 3, "Flatten", [], {}, {"Flatten": {}}])
def test_layers_that_are_no_list_are_refused(entries: Any) -> None:
    with pytest.raises(UserError, match="expected a list of layers"):
        parse(entries, "m")


@pytest.mark.parametrize(
    ("entry", "said"),
    [
        (3, "m, layer 1: got 3, expected a layer's name"),
        ({"Conv2D": {}, "Flatten": {}}, "expected a layer's name, or one name with its arguments"),
        ({"Dense": 10}, "m, layer 1 (Dense): got 10, expected {argument: value}"),
        ({"Dense": [10]}, "expected {argument: value}"),
        ({"Residual": {}}, "expected layers and, if need be, shortcut"),
        ({"Residual": {"layers": ["Flatten"], "short": []}}, "got layers, short, expected layers"),
        ({"Residual": {"layers": []}}, "(Residual): layers: got [], expected a list"),
        ("Residual", "m, layer 1 (Residual): got nothing, expected layers and, if need be, shortcut"),
        ({"Gate": {"layers": ["ReLU"], "shortcut": ["ReLU"]}}, "(Gate): got layers, shortcut, expected layers"),
        ({"Repeat": {"layers": ["ReLU"]}}, "m, layer 1 (Repeat): got layers, expected times and layers"),
        (
            {"Repeat": {"times": -1, "layers": ["ReLU"]}},
            "(Repeat): times: got -1, expected a whole number of at least 0",
        ),
        ({"Dense": {True: 2}}, "m, layer 1 (Dense): no argument True"),
        ({"Repeat": {"times": "2", "layers": ["ReLU"]}}, "(Repeat): times: got '2', expected a whole number"),
        ({"Repeat": {"times": 1, "layers": [{"Dense": 1}]}}, "m, layer 1 (Repeat), layer 1 (Dense): got 1, expected"),
    ],
)
def test_an_entry_of_another_form_is_refused_by_its_position(entry: Any, said: str) -> None:
    with pytest.raises(UserError, match=r"^m, layer 1") as refused:
        parse([entry], "m")
    assert said in str(refused.value)


def test_repeats_within_repeats_cannot_stand_for_more_layers_than_memory_holds() -> None:
    entries: list[Any] = ["ReLU"]
    for _ in range(9):
        entries = [{"Repeat": {"times": 10, "layers": entries}}]
    with pytest.raises(UserError, match="got 11,111 layers with their repeats, expected at most 10,000"):
        parse(entries, "m")


def test_repeats_of_nothing_are_counted_too() -> None:
    nothing = {"Repeat": {"times": 0, "layers": ["ReLU"]}}
    for inner in (nothing, {"Residual": {"layers": [nothing]}}):
        with pytest.raises(UserError, match="expected at most 10,000"):
            parse([{"Repeat": {"times": 10**9, "layers": [inner]}}], "m")


def test_layers_are_walked_through_as_often_as_they_are_repeated() -> None:
    layers = parse(["Flatten", {"Repeat": {"times": 2, "layers": ["ReLU", {"Gate": {"layers": ["Softmax"]}}]}}], "m")
    assert [(where, layer.kind) for where, layer in in_order(layers, "m")] == [
        ("m, layer 1 (Flatten)", "Flatten"),
        ("m, layer 2 (Repeat, time 1), layer 1 (ReLU)", "ReLU"),
        ("m, layer 2 (Repeat, time 1), layer 2 (Gate)", "Gate"),
        ("m, layer 2 (Repeat, time 2), layer 1 (ReLU)", "ReLU"),
        ("m, layer 2 (Repeat, time 2), layer 2 (Gate)", "Gate"),
    ]
    assert kinds(layers) == {"Flatten", "Repeat", "ReLU", "Gate", "Softmax"}


@pytest.mark.parametrize(
    ("entries", "mixes"),
    [
        (["Flatten", {"Dense": {"units": 10}}], False),
        (["BatchNormalization"], True),
        ([{"Residual": {"layers": ["ReLU"], "shortcut": ["BatchNormalization"]}}], True),
        ([{"Repeat": {"times": 2, "layers": [{"Dense": {"units": 3, "activity_regularizer": "l2"}}]}}], True),
    ],
    ids=str,
)
def test_which_layers_look_at_other_images_of_a_batch(entries: list[Any], mixes: bool) -> None:
    assert mixes_images(parse(entries, "m")) == mixes
