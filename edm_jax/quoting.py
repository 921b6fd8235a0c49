"""Values in messages, cut short. It imports no JAX, for workers that read data."""

import reprlib
from typing import Any

_LONGEST = 80  # characters of a value in a message
_SHORT = reprlib.Repr()  # it writes the beginning alone, and does not run into the recursion limit
_SHORT.maxlevel = 3
_SHORT.maxlist = _SHORT.maxtuple = _SHORT.maxdict = 40
_SHORT.maxstring = _SHORT.maxother = _SHORT.maxlong = 4 * _LONGEST


def quoted(value: Any) -> str:
    """`repr` of a value for a message, cut short: a setting read from a file may be huge.

    >>> quoted("x" * 1000) == "'" + "x" * 79 + "…"
    True

    Args:
      value: anything, nested however deeply.

    Returns:
      Its text, of at most 81 characters.
    """
    text = _SHORT.repr(value)
    return text if len(text) <= _LONGEST + 1 else f"{text[:_LONGEST]}…"
