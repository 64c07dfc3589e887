"""Sphinx: notebooks are executed, warnings are errors (``sphinx-build -W``)."""

import sys
from pathlib import Path

sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).parent.parent)]

import _pages

from hiercorr import __version__

project, author, release = "hiercorr", "The hiercorr developers", __version__
copyright = "The hiercorr developers, BSD-3-Clause"
extensions = [
    "myst_nb",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx.ext.mathjax",
    "sphinx.ext.viewcode",
]
exclude_patterns = ["_build", "**/.ipynb_checkpoints", "publish"]
source_suffix = {".md": "myst-nb", ".rst": "restructuredtext"}
root_doc = "index"

html_theme = "furo"
html_title = f"hiercorr {release}"
html_theme_options = {"source_repository": "", "navigation_with_keys": True}

myst_enable_extensions = ["dollarmath", "amsmath", "deflist", "attrs_inline"]
myst_heading_anchors = 3
nb_execution_mode = "cache"
nb_execution_raise_on_error = True
nb_execution_timeout = 300
nb_merge_streams = True

autodoc_typehints = "none"  # types stand in the docstrings
autodoc_member_order = "bysource"
napoleon_numpy_docstring, napoleon_google_docstring = True, False
napoleon_use_rtype = False
napoleon_use_ivar = True  # attributes are fields of their class, not entries of their own


def setup(app):
    """Write the pages that are made of other files before anything is read."""
    app.connect("builder-inited", lambda app: _pages.write(Path(app.srcdir)))
