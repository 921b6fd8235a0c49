"""The site: `make docs` builds it from these pages, the docstrings and the README."""

import pathlib
import shutil
import sys

import edm_jax

DOCS = pathlib.Path(__file__).parent
sys.path.insert(0, str(DOCS / "site"))

project, author, copyright = "edm_jax", "the edm_jax authors", "the edm_jax authors"
version = release = edm_jax.__version__

extensions = [
    "myst_nb", "sphinx.ext.autodoc", "sphinx.ext.autosummary", "sphinx.ext.napoleon",
    "breaks", "docstrings", "links",
]  # fmt: skip
exclude_patterns = ["figures", "playground"]
templates_path = ["_templates"]
html_theme = "sphinx_book_theme"
html_title = "edm_jax"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_theme_options = {"show_toc_level": 2, "home_page_in_toc": True}

myst_heading_anchors = 3
nb_execution_mode = "off"  # notebooks are stored with their outputs, which a test makes again

autosummary_generate = True
autodoc_member_order = "bysource"
autodoc_typehints = "signature"
napoleon_use_ivar = True
napoleon_use_rtype = False
napoleon_attr_annotations = False  # the signature has them
python_maximum_signature_line_length = 88


def copy_playground(app, error) -> None:
    """docs/playground is a page of its own, and stays one folder of the site."""
    if (DOCS / "playground").is_dir():
        target = pathlib.Path(app.outdir) / "playground"
        ignored = shutil.ignore_patterns("*.py", "__pycache__")
        shutil.copytree(DOCS / "playground", target, dirs_exist_ok=True, ignore=ignored)


def setup(app) -> None:
    """What Sphinx calls."""
    app.connect("build-finished", copy_playground)
