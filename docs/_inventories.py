"""Inventories for intersphinx, written at every build: links without a network."""

from __future__ import annotations

import zlib
from pathlib import Path

# project -> (site, name of the object -> (role, page))
SITES: dict[str, tuple[str, dict[str, tuple[str, str]]]] = {
    "python": (
        "https://docs.python.org/3/",
        {"pathlib.Path": ("class", "library/pathlib.html#pathlib.Path")},
    ),
    "numpy": (
        "https://numpy.org/doc/stable/",
        {
            "numpy.ndarray": ("class", "reference/generated/numpy.ndarray.html#numpy.ndarray"),
            "numpy.random.Generator": (
                "class",
                "reference/random/generator.html#numpy.random.Generator",
            ),
        },
    ),
    "pandas": (
        "https://pandas.pydata.org/docs/",
        {
            f"pandas.{name}": ("class", f"reference/api/pandas.{name}.html#pandas.{name}")
            for name in ("DataFrame", "Series", "Index")
        },
    ),
    "xarray": (
        "https://docs.xarray.dev/en/stable/",
        {
            f"xarray.{name}": ("class", f"generated/xarray.{name}.html#xarray.{name}")
            for name in ("Dataset", "DataArray")
        },
    ),
    "anndata": (
        "https://anndata.readthedocs.io/en/stable/",
        {"anndata.AnnData": ("class", "generated/anndata.AnnData.html#anndata.AnnData")},
    ),
    "matplotlib": (
        "https://matplotlib.org/stable/",
        {
            name: ("class", f"api/_as_gen/{name}.html#{name}")
            for name in ("matplotlib.axes.Axes", "matplotlib.figure.Figure")
        },
    ),
    "networkx": (
        "https://networkx.org/documentation/stable/",
        {"networkx.Graph": ("class", "reference/classes/graph.html#networkx.Graph")},
    ),
}

# words of the docstrings -> objects
ALIASES = {
    "Path": "pathlib.Path",
    "DataFrame": "pandas.DataFrame",
    "Series": "pandas.Series",
    "Dataset": "xarray.Dataset",
    "DataArray": "xarray.DataArray",
    "AnnData": "anndata.AnnData",
    "Axes": "matplotlib.axes.Axes",
    "Figure": "matplotlib.figure.Figure",
    "Generator": "numpy.random.Generator",
    "ndarray": "numpy.ndarray",
}


def write(folder: Path) -> dict[str, tuple[str, str]]:
    """Write one inventory per project; return intersphinx_mapping."""
    folder.mkdir(parents=True, exist_ok=True)
    mapping = {}
    for project, (site, objects) in SITES.items():
        lines = "".join(f"{name} py:{role} 1 {page} -\n" for name, (role, page) in objects.items())
        header = (
            f"# Sphinx inventory version 2\n# Project: {project}\n# Version: \n"
            "# The remainder of this file is compressed using zlib.\n"
        )
        path = folder / f"{project}.inv"
        path.write_bytes(header.encode() + zlib.compress(lines.encode()))
        mapping[project] = (site, str(path))
    return mapping
