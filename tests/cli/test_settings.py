"""Settings by dotted names: read by their types, replaced in frozen dataclasses too."""

import dataclasses
from typing import Any

import pytest

from edm_jax.cli import settings


def field(default, text=""):
    return dataclasses.field(default=default, metadata={"help": text})


@dataclasses.dataclass(frozen=True)
class Inner:
    width: int = field(8, "of a layer")
    rate: float = 0.5
    names: dict[str, Any] = dataclasses.field(default_factory=lambda: {"a": 1})


@dataclasses.dataclass(frozen=True)
class Outer:
    inner: Inner = Inner()
    flag: bool = field(False, "whether")
    title: str = "x"
    note: str | None = None
    ratio: float | None = 0.05
    sizes: tuple[int, ...] = (1, 2)
    shares: tuple[float, ...] = ()
    more: dict[str, Any] | None = None


@pytest.mark.parametrize(
    "name, text, value",
    [
        ("flag", "true", True),
        ("flag", "False", False),
        ("title", "8", "8"),
        ("title", "none", "none"),
        ("note", "None", None),
        ("note", "(1, 2", "(1, 2"),
        ("ratio", "none", None),
        ("ratio", "1e-3", 1e-3),
        ("ratio", "2", 2.0),
        ("sizes", "(4,8)", (4, 8)),
        ("sizes", "4,8", (4, 8)),
        ("sizes", "[4]", (4,)),
        ("sizes", "4", (4,)),
        ("sizes", "()", ()),
        ("shares", "(1, 0.5)", (1.0, 0.5)),
        ("inner.width", "16", 16),
        ("inner.rate", "-1", -1.0),
        ("inner.names", "{'b': (1, 2)}", {"b": (1, 2)}),
        ("inner.names.b", "-0.4", {"a": 1, "b": -0.4}),
        ("inner.names.a", "cosine", {"a": "cosine"}),
        ("more.a", "1", {"a": 1}),
    ],
)
def test_a_value_is_read_by_its_type(name, text, value):
    before = Outer()
    after = settings.replace(before, [(name, text)])
    found = after
    for part in name.split(".")[: 2 if name.startswith("inner") else 1]:
        found = getattr(found, part)
    assert found == value and type(found) is type(value)
    if isinstance(value, tuple):
        assert list(map(type, found)) == list(map(type, value))
    assert before == Outer()


def test_many_changes_come_together_and_the_later_of_two_holds():
    after = settings.replace(
        Outer(), [("inner.width", "1"), ("inner.names.b", "2"), ("flag", "true"),
                  ("inner.width", "3"), ("inner.names.c", "none")]
    )  # fmt: skip
    assert after == Outer(Inner(3, 0.5, {"a": 1, "b": 2, "c": None}), flag=True)


def test_a_dataclass_is_made_once_with_all_its_changes():
    """So settings that only go together can be given one by one."""

    @dataclasses.dataclass(frozen=True)
    class Pair:
        low: int = 0
        high: int = 1

        def __post_init__(self):
            if self.low >= self.high:
                raise ValueError("low must be below high")

    assert settings.replace(Pair(), [("low", "5"), ("high", "6")]) == Pair(5, 6)
    with pytest.raises(ValueError, match="low must be below"):
        settings.replace(Pair(), [("low", "5")])


@pytest.mark.parametrize(
    "name, text, message",
    [
        ("flag", "1", "--flag must be True or False, got '1'"),
        ("ratio", "much", "--ratio must be a number, or None, got 'much'"),
        ("sizes", "(1, 0.5)", "--sizes must be a tuple of integers, got '(1, 0.5)'"),
        ("sizes", "(1, True)", "--sizes must be a tuple of integers"),
        ("shares", "(1, 'a')", "--shares must be a tuple of numbers"),
        ("inner.width", "8.0", "--inner.width must be an integer, got '8.0'"),
        ("inner.width", "True", "--inner.width must be an integer"),
        ("inner.names", "3", "--inner.names must be a dictionary such as"),
        ("inner.widht", "3", "unknown setting --inner.widht; did you mean --inner.width?"),
        ("inner", "3", "unknown setting --inner; did you mean --inner."),
        ("sizes.a", "3", "unknown setting --sizes.a; did you mean --sizes?"),
        ("inner.width.x", "3", "unknown setting --inner.width.x; did you mean --inner.width?"),
    ],
)
def test_what_is_wrong_is_named(name, text, message):
    with pytest.raises(ValueError) as caught:
        settings.replace(Outer(), [(name, text)], prefix="--")
    assert str(caught.value).startswith(message)


def test_the_list_has_every_setting_with_its_meaning():
    found = {s.name: s for s in settings.settings(Outer())}
    assert list(found)[:4] == ["inner.width", "inner.rate", "inner.names", "flag"]
    assert found["inner.width"][1:] == (8, "of a layer", int)
    assert found["flag"].help == "whether" and found["note"].value is None


@pytest.mark.parametrize("words", [["--config.a"], ["--config.a", "--quiet"]])
def test_a_setting_has_a_value(words):
    with pytest.raises(ValueError, match="--config.a must have a value, as in --config.a=VALUE"):
        settings.take(words, "--config.")


def test_a_value_may_be_negative_empty_or_hold_an_equals_sign():
    words = ["--config.a", "-0.4", "--config.b=", "--config.c=x=1", "rest"]
    assert settings.take(words, "--config.") == ([("a", "-0.4"), ("b", ""), ("c", "x=1")], ["rest"])
