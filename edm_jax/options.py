"""What a registry says of its entries: their options with types, defaults and choices, by name.

An entry is a function whose keyword-only parameters are its options. Nothing is written twice: the
command line, the documentation and the checks all read the signature.
"""

import inspect
import types
import typing
from collections.abc import Callable, Mapping
from typing import Any, Literal, NamedTuple, TypeVar

import numpy as np

from edm_jax.checks import one_of
from edm_jax.quoting import quoted

Entry = TypeVar("Entry")


class Option(NamedTuple):
    """One option of a registered function.

    Attributes:
      type: what a value is, None aside: `float`, `int`, `bool`, `str`, or a class of this library.
      default: the value where it is not given; None if `required`.
      choices: the values that can be named, such as ("small", "large"); empty if there is no list.
      required: whether there is no default.
    """

    type: Any
    default: Any
    choices: tuple[Any, ...] = ()
    required: bool = False


def options_of(function: Callable) -> dict[str, Option]:
    """The options of a function: its keyword-only parameters, read from their annotations.

    >>> def grid(num_steps: int, *, rho: float = 7.0, final: Literal["zero", "one"] = "zero"): ...
    >>> options_of(grid)["final"]
    Option(type=<class 'str'>, default='zero', choices=('zero', 'one'), required=False)

    Args:
      function: whose keyword-only parameters are annotated.

    Returns:
      Name -> option, in the order of the signature.
    """
    hints = typing.get_type_hints(function)
    found = {}
    for name, parameter in inspect.signature(function).parameters.items():
        if parameter.kind is parameter.KEYWORD_ONLY:
            kind, choices = _kind(hints.get(name, Any))
            required = parameter.default is parameter.empty
            found[name] = Option(kind, None if required else parameter.default, choices, required)
    return found


def _kind(hint: Any) -> tuple[Any, tuple[Any, ...]]:
    """The type and the choices of an annotation: of a union those of its first member."""
    if isinstance(hint, types.UnionType) or typing.get_origin(hint) is typing.Union:
        hint = next(member for member in typing.get_args(hint) if member is not type(None))
    if typing.get_origin(hint) is Literal:
        choices = typing.get_args(hint)
        return type(choices[0]), choices
    return typing.get_origin(hint) or hint, ()


def check_options(name: str, options: Mapping[str, Option], given: Mapping[str, Any]) -> None:
    """Checks what is given against the options of an entry.

    Args:
      name: the entry's, for the message.
      options: what it takes.
      given: what it gets.

    Raises:
      ValueError: an option that it does not take, with the nearest one; a required one that is
        missing; a value for a switch that is not True or False.
    """
    for option, value in given.items():
        if not options:
            raise ValueError(f"{name} must be given no options, got {quoted(option)}")
        one_of(f"an option of {name}", option, tuple(options))
        if options[option].type is bool and not isinstance(value, (bool, np.bool_)):
            raise ValueError(f"{option} must be True or False, got {quoted(value)}")
    for option, about in options.items():
        if about.required and option not in given:
            raise ValueError(f"{option} must be given for {name}, got none")


def find(kind: str, name: str, entries: Mapping[str, Entry]) -> Entry:
    """Looks an entry of a registry up.

    Args:
      kind: what the entries are, for the message: "solver", "grid".
      name: its key.
      entries: the registry.

    Returns:
      The entry.

    Raises:
      ValueError: there is none of that name; the message has the nearest one.
    """
    return entries[one_of(kind, name, tuple(entries))]
