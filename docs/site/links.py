"""Links of the pages read on GitHub, where they name files; here they lead to pages of the site.

A link to a file of the package, with a name in code as its text, leads to the reference:
[`schedules.vp`](../edm_jax/schedules/linear_beta.py).
"""

import os
import pathlib

from docutils import nodes
from sphinx import addnodes

ROOT = pathlib.Path(__file__).parents[2]
# Files outside of docs/ that are pages of the site.
PAGES = {
    "README.md": "index",
    "CONTRIBUTING.md": "site/contributing",
    "CHANGELOG.md": "site/changelog",
    "benchmarks/README.md": "site/benchmarks",
}
FILES = {page: file for file, page in PAGES.items()}


def lead_to_pages(app, document) -> None:
    """Replaces what stands for a file by a reference to a page or to a name of the package."""
    page = app.env.docname
    folder = (ROOT / FILES.get(page, f"docs/{page}")).parent
    found = [
        *document.findall(addnodes.pending_xref),
        *document.findall(addnodes.download_reference),
    ]
    for node in found:
        if node.get("reftype") != "myst":
            continue
        path, _, anchor = node["reftarget"].partition("#")
        anchor = anchor or node.get("reftargetid") or None
        if node.get("refdomain") == "doc":
            if path in app.env.found_docs:
                continue
            path = f"/{path}.md"  # so MyST names what lies outside of docs/
        file = os.path.relpath(os.path.normpath(folder / path), ROOT)
        if file.startswith("docs/") and file.endswith((".md", ".ipynb")):
            target = file.removeprefix("docs/").rpartition(".")[0]
        else:
            target = PAGES.get(file)
        if target is not None:
            new = addnodes.pending_xref(refdomain="doc", reftarget=target, reftargetid=anchor)
        elif file.startswith("edm_jax/"):
            name = f"edm_jax.{node.astext()}"
            new = addnodes.pending_xref(refdomain="py", reftype="obj", reftarget=name, refwarn=True)
        elif file.startswith("docs/playground/"):  # copied beside the pages
            up = "../" * page.count("/")
            new = nodes.reference(internal=True, refuri=up + file.removeprefix("docs/"))
        elif (ROOT / file).is_file():
            target = os.path.relpath(ROOT / file, pathlib.Path(app.srcdir, page).parent)
            new = addnodes.download_reference(refdomain=None, reftarget=target)
        elif (ROOT / file).is_dir():  # GitHub shows it, a site does not
            node.replace_self(node.children)
            continue
        else:
            continue
        for name, value in node.attributes.items():
            new.attributes.setdefault(name, value)
        new += node.children
        node.replace_self(new)


def setup(app) -> dict:
    """Before Sphinx collects files to download."""
    app.connect("doctree-read", lead_to_pages, priority=100)
    return {"parallel_read_safe": True}
