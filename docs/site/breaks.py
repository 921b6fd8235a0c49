"""Where a line may end inside of code in running text and in tables: after a separator of names.

The theme keeps the words of such code whole, which long names do not fit: `samplers.euler` may
break after the dot, `--steps` nowhere.
"""

import re

WORD = re.compile(r'<span class="pre">(.*?)</span>')
BREAK = re.compile(r"(?<=\w[_/=(-])(?=\w)|(?<=[^\W\d]\.)(?=\w)")


def allow_breaks(app, page, template, context, document) -> None:
    """Cuts the words of code where a line may end."""
    cut = lambda match: "<wbr>".join(
        f'<span class="pre">{part}</span>' for part in BREAK.split(match[1])
    )
    if "body" in context:
        context["body"] = WORD.sub(cut, context["body"])


def setup(app) -> dict:
    """After Sphinx made a page, before the theme has it."""
    app.connect("html-page-context", allow_breaks)
    return {"parallel_read_safe": True}
