"""Sphinx: notebooks are executed, warnings are errors (``sphinx-build -W``)."""

import os
import sys
from pathlib import Path

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE), str(HERE.parent)]

import _inventories
import _pages

from hiercorr import __version__

project, author, release = "hiercorr", "The hiercorr developers", __version__
copyright = "The hiercorr developers, BSD-3-Clause"
language = "en"
extensions = [
    "myst_nb",
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.intersphinx",
    "sphinx.ext.mathjax",
    "sphinx.ext.napoleon",
    "sphinx.ext.viewcode",
    "sphinx_copybutton",
]
exclude_patterns = [
    "_build",
    "**/.ipynb_checkpoints",
    ".jupyter_cache",
    "jupyter_execute",
    "publish",
]
source_suffix = {".rst": "restructuredtext", ".md": "myst-nb"}  # pages of the reference are .rst
root_doc = "index"
templates_path = ["_templates"]

html_theme = "furo"
html_title = f"hiercorr {release}"
html_static_path, html_css_files = ["_static"], ["site.css"]
html_theme_options = {"source_repository": "", "navigation_with_keys": True}

myst_enable_extensions = ["dollarmath", "amsmath", "deflist", "attrs_inline"]
myst_heading_anchors = 3
myst_html_meta = {
    "description": "Gene-gene correlation from single-cell counts, within and between samples, "
    "with donors as the units of inference.",
    "keywords": "single-cell RNA-seq, co-expression, gene correlation, pseudoreplication",
}
# Executed cells show tables with three decimals, warnings without the place of a temporary file,
# and figures at twice the resolution.
kernel = HERE / "generated" / "ipython" / "profile_default" / "ipython_kernel_config.py"
kernel.parent.mkdir(parents=True, exist_ok=True)
kernel.write_text(
    """c = get_config()
c.IPKernelApp.exec_lines = [
    "import pandas, warnings",
    "pandas.set_option('display.precision', 3)",
    "warnings.formatwarning = lambda text, kind, *_, **__: f'{kind.__name__}: {text}' + chr(10)",
]
c.InlineBackend.figure_formats = {"retina"}
"""
)
os.environ["IPYTHONDIR"] = str(kernel.parent.parent)

nb_execution_mode = "cache"
nb_execution_raise_on_error = True
nb_execution_timeout = 300
nb_merge_streams = True

autosummary_generate = True
autodoc_typehints = "none"  # the docstrings state the types
autodoc_member_order = "bysource"
napoleon_numpy_docstring, napoleon_google_docstring = True, False
napoleon_use_rtype = False
napoleon_use_ivar = True  # attributes are fields of their class, not entries of their own
napoleon_preprocess_types = True
napoleon_type_aliases = _inventories.ALIASES

intersphinx_mapping = _inventories.write(HERE / "generated" / "inventories")
copybutton_prompt_text, copybutton_prompt_is_regexp = r">>> |\.\.\. |\$ ", True


def setup(app):
    """Write the pages that are made of other files before anything is read."""
    app.connect("builder-inited", lambda app: _pages.write(Path(app.srcdir)))
