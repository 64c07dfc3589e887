"""Files for publication: the conda recipe and the container agree with pyproject.toml."""

import re
import tomllib
from pathlib import Path

import pytest
import yaml

from hiercorr import __version__

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
PUBLISH = ROOT / "docs" / "publish"
CONDA = {"matplotlib": "matplotlib-base", "igraph": "python-igraph", "pymc": "pymc-base"}
NOT_ON_CONDA_FORGE = {"gseapy", "pydeseq2"}  # on bioconda
OPTIONAL = ("bayes", "report", "parquet", "dask", "mudata", "network")


@pytest.fixture(scope="module")
def recipe():
    return yaml.safe_load((PUBLISH / "recipe" / "recipe.yaml").read_text("utf-8"))


def requirement(text):
    """Name on conda-forge and version constraint of a requirement of pip."""
    name, constraint = re.fullmatch(r"([\w-]+)(?:\[[\w,]+\])?(.*)", text).groups()
    return CONDA.get(name, name), constraint


def listed(entries):
    return dict(entry.split(" ", 1) for entry in entries if not entry.startswith("python "))


def test_recipe_has_the_dependencies_of_the_project(recipe):
    run = recipe["requirements"]["run"]
    assert listed(run) == dict(map(requirement, PROJECT["project"]["dependencies"]))
    assert f"python >={recipe['context']['python_min']}" == run[0].replace(
        "${{ python_min }}", recipe["context"]["python_min"]
    )
    assert PROJECT["project"]["requires-python"] == f">={recipe['context']['python_min']}"
    build = dict(map(requirement, PROJECT["build-system"]["requires"]))
    assert build.items() <= listed(r for r in recipe["requirements"]["host"] if " " in r).items()


def test_recipe_constrains_what_extras_install(recipe):
    extras = PROJECT["project"]["optional-dependencies"]
    wanted = dict(requirement(r) for name in OPTIONAL for r in extras[name])
    wanted = {k: v for k, v in wanted.items() if k not in {"hiercorr", *NOT_ON_CONDA_FORGE}}
    assert listed(recipe["requirements"]["run_constraints"]) == wanted


def test_versions_and_commands_agree(recipe):
    assert recipe["context"]["version"] == __version__
    assert f"version: {__version__}" in (ROOT / "CITATION.cff").read_text("utf-8")
    assert re.search(
        rf"^## {re.escape(__version__)}\b", (ROOT / "CHANGELOG.md").read_text("utf-8"), re.M
    )
    points = [f"{k} = {v}" for k, v in PROJECT["project"]["scripts"].items()]
    assert recipe["build"]["python"]["entry_points"] == points
    assert recipe["about"]["license"] == PROJECT["project"]["license"]


def test_container_installs_extras_that_exist():
    text = (PUBLISH / "Dockerfile").read_text("utf-8")
    (extras,) = re.findall(r"\.whl\)\[([\w,]+)\]", text)
    assert set(extras.split(",")) <= set(PROJECT["project"]["optional-dependencies"])
    version = re.search(r"FROM python:(\d\.\d+)-slim", text).group(1)
    assert f"Programming Language :: Python :: {version}" in PROJECT["project"]["classifiers"]
    assert 'ENTRYPOINT ["hiercorr"]' in text
