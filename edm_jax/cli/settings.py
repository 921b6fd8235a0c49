"""Settings of nested dataclasses by dotted names: listed, read from words, replaced.

Dataclasses may be frozen: changed copies are made from the inside out. An entry of a dictionary is
named like a field, `loss.arguments.p_mean`.
"""

import ast
import dataclasses
import difflib
import types
import typing
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

KINDS = {
    int: "an integer",
    float: "a number",
    bool: "True or False",
    str: "text",
    dict: "a dictionary such as {'name': 1.0}",
    types.NoneType: "None",
}
WORDS = ("true", "false", "none")  # Python's, in any case


class Setting(NamedTuple):
    """One setting.

    Attributes:
      name: fields from the outside in, with dots between.
      value: what it is.
      help: what it means; the field's metadata `help`.
      hint: the annotated type.
    """

    name: str
    value: Any
    help: str
    hint: Any


def settings(config: Any, prefix: str = "") -> Iterator[Setting]:
    """Every setting of a dataclass; a nested dataclass gives its own, a dictionary is one."""
    hints = typing.get_type_hints(type(config))
    for field in dataclasses.fields(config):
        if not field.init:  # decided by the class
            continue
        value, name = getattr(config, field.name), prefix + field.name
        if dataclasses.is_dataclass(value):
            yield from settings(value, f"{name}.")
        else:
            yield Setting(name, value, field.metadata.get("help", ""), hints[field.name])


def take(words: Sequence[str], prefix: str) -> tuple[list[tuple[str, str]], list[str]]:
    """Splits a command line into settings and the rest.

    >>> take(["--config.a=1", "--quiet", "--config.b.c", "x"], "--config.")
    ([('a', '1'), ('b.c', 'x')], ['--quiet'])

    Args:
      words: the command line, with settings as NAME=VALUE or as NAME and VALUE.
      prefix: what settings begin with.

    Returns:
      (name without the prefix, value) of the settings, and the other words, in order.

    Raises:
      ValueError: a setting without a value.
    """
    found, rest, queue = [], [], iter(words)
    for word in queue:
        if not word.startswith(prefix):
            rest.append(word)
            continue
        name, equals, value = word.partition("=")
        if not equals:
            value = next(queue, "--")
            if value.startswith("--"):
                raise ValueError(f"{name} must have a value, as in {name}=VALUE")
        found.append((name.removeprefix(prefix), value))
    return found, rest


def replace(config: Any, changes: Sequence[tuple[str, str]], prefix: str = "") -> Any:
    """A copy of a dataclass with settings changed.

    Args:
      config: a dataclass, of dataclasses.
      changes: (name, value as text); of two for one name the later holds.
      prefix: what messages put before a name.

    Returns:
      The copy, of the same type.

    Raises:
      ValueError: an unknown name, with the nearest one; a value that the field cannot have.
    """
    known = {setting.name: setting for setting in settings(config)}
    mappings = [name for name, setting in known.items() if _is_mapping(setting.hint)]
    for name, _ in changes:
        if name not in known and not any(name.startswith(f"{m}.") for m in mappings):
            near = difflib.get_close_matches(name, known, n=1, cutoff=0.0)[0]
            raise ValueError(f"unknown setting {prefix}{name}; did you mean {prefix}{near}?")
    return _replaced(config, changes, prefix)


def _replaced(node: Any, changes: Sequence[tuple[str, str]], prefix: str) -> Any:
    if isinstance(node, dict):
        return node | {name: read(text, Any, prefix + name) for name, text in changes}
    hints = typing.get_type_hints(type(node))
    new: dict[str, Any] = {}
    inner: dict[str, list[tuple[str, str]]] = {}
    for name, text in changes:
        head, dot, rest = name.partition(".")
        if dot:
            inner.setdefault(head, []).append((rest, text))
        else:
            new[head] = read(text, hints[head], prefix + head)
    for head, parts in inner.items():
        before = new.get(head, getattr(node, head))
        new[head] = _replaced({} if before is None else before, parts, f"{prefix}{head}.")
    return dataclasses.replace(node, **new)


def read(text: str, hint: Any, name: str) -> Any:
    """Reads a value: a Python literal, true, false or none; anything else is text.

    >>> read("1", float, "x"), read("4,8", tuple[int, ...], "x"), read("none", str | None, "x")
    (1.0, (4, 8), None)

    Args:
      text: what was written.
      hint: the type that it must have.
      name: for the message.

    Raises:
      ValueError: it has another type.
    """
    for option in _options(hint):
        if option is str:
            return text
        try:
            return float(text) if option is float else _conform(_literal(text), option)
        except (TypeError, ValueError):
            continue
    raise ValueError(f"{name} must be {describe(hint)}, got {text!r}")


def describe(hint: Any) -> str:
    """A type in words.

    >>> describe(tuple[int, ...] | None)
    'a tuple of integers, or None'
    """
    options = sorted(_options(hint), key=lambda option: option is types.NoneType)
    if len(options) > 1:
        return ", or ".join(describe(option) for option in options)
    if typing.get_origin(hint) is tuple:
        return f"a tuple of {KINDS[typing.get_args(hint)[0]].split()[-1]}s"
    return KINDS[typing.get_origin(hint) or hint]


def _options(hint: Any) -> list[Any]:
    """The types that a value may have; text last, as anything can be read as text."""
    union = typing.get_origin(hint) in (typing.Union, types.UnionType)
    return sorted(typing.get_args(hint) if union else [hint], key=lambda option: option is str)


def _is_mapping(hint: Any) -> bool:
    return any(typing.get_origin(option) is dict for option in _options(hint))


def _literal(text: str) -> Any:
    plain = text.strip()
    try:
        return ast.literal_eval(plain.title() if plain.lower() in WORDS else plain)
    except (ValueError, SyntaxError):
        return text


def _conform(value: Any, hint: Any) -> Any:
    """`value` as a `hint`; a whole number may stand for a float, one value for a tuple of it."""
    kind = typing.get_origin(hint) or hint
    if kind is tuple:
        rows = value if isinstance(value, (tuple, list)) else (value,)
        return tuple(_conform(row, typing.get_args(hint)[0]) for row in rows)
    if kind is float and type(value) is int:
        return float(value)
    if kind is not Any and type(value) is not kind:
        raise TypeError(hint)
    return value
