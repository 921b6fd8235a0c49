"""Docstrings are plain text with Google's sections; this makes reStructuredText of them."""

import collections
import re

import jax.typing
import numpy.typing
from sphinx.util.typing import stringify_annotation

FieldOfTuple = type(collections.namedtuple("Field", "name").name)
SECTION = re.compile(r"(Args|Attributes|Example|Examples|Raises|Returns|Yields):$")
FIELD = re.compile(r"(\w+): ")
CODE = re.compile(r"`+([^`]+)`+(?=(\w?))")
SPECIAL = re.compile(r"[*|\\]|(?<=\w)_(?!\w)|``")


def escaped(paragraph: list[str]) -> list[str]:
    """The lines of a paragraph in which only `code` keeps a meaning."""
    text, made, end = "\n".join(paragraph), "", 0
    for code in CODE.finditer(text):
        made += SPECIAL.sub(r"\\\g<0>", text[end : code.start()]) + f"``{code[1]}``"
        made += "\\ " if code[2] else ""  # `key`s
        end = code.end()
    return (made + SPECIAL.sub(r"\\\g<0>", text[end:])).split("\n")


def paragraphs(lines: list[str]) -> list[list[str]]:
    """The runs of lines between empty ones."""
    found: list[list[str]] = [[]]
    for line in lines:
        if line.strip():
            found[-1].append(line)
        elif found[-1]:
            found.append([])
    return [paragraph for paragraph in found if paragraph]


def plain(app, what, name, thing, options, lines: list[str]) -> None:
    """Rewrites a docstring in place: equations as they stand, fields of records as attributes."""
    made: list[str] = []
    fields = set(getattr(thing, "__annotations__", ())) if isinstance(thing, type) else set()
    inside = False
    for paragraph in paragraphs(lines):
        first = paragraph[0]
        inside = bool(SECTION.match(first)) or (inside and first.startswith(" "))
        field = FIELD.match(first)
        if first.lstrip().startswith(">>>"):
            made += paragraph
        elif first.startswith(" ") and not inside:
            made += [".. code-block:: text", "", *paragraph]
        elif field and field[1] in fields:
            made += ["Attributes:", *("  " + line for line in escaped(paragraph))]
        else:
            made += escaped(paragraph)
        made.append("")
    # Napoleon takes what stands before a colon for the type of an attribute.
    lines[:] = ["\\ ", *made] if what in ("attribute", "data", "property") else made


def undescribed(app, what, name, thing, skip: bool, options) -> bool | None:
    """Leaves out the fields of a NamedTuple, which stand in its docstring."""
    return True if isinstance(thing, FieldOfTuple) else None


def named(app, what, name, thing, options, signature: str | None, returns: str | None):
    """Calls ArrayLike so in signatures, not by the types that it stands for."""
    for room in (numpy.typing, jax.typing):
        types = stringify_annotation(room.ArrayLike, "smart")
        short = f"~{room.__name__}.ArrayLike"
        signature, returns = (part and part.replace(types, short) for part in (signature, returns))
    return signature, returns


def setup(app) -> dict:
    """Before Napoleon reads the sections."""
    app.connect("autodoc-process-signature", named)
    app.connect("autodoc-process-docstring", plain, priority=100)
    app.connect("autodoc-skip-member", undescribed)
    return {"parallel_read_safe": True}
