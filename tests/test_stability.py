"""What users rely on across versions: saved results, public names, docstrings, the README."""

import importlib
import inspect
import re
import tomllib
from pathlib import Path

import numpy as np
import pytest
import xarray as xr

import hiercorr as hc
from hiercorr.schema import SCHEMA_VERSION

DATA = Path(__file__).parent / "data"


SAVED = sorted(DATA.glob("*.nc"))


@pytest.mark.sampled(5)
@pytest.mark.parametrize("path", SAVED, ids=lambda p: p.stem)
def test_results_of_earlier_versions_load(path, tmp_path):
    r = hc.load(path)
    level, version = path.stem.split("_")
    assert r.dataset.attrs["schema_version"] == SCHEMA_VERSION
    assert r.dataset.attrs["level"] == level
    assert r.target == (None if level == "within" else "gene0")
    assert np.isfinite(r.matrix().values).any()
    assert r.top("gene0", n=3)["p_value"].notna().any()
    assert str(r.summary("gene0" if r.target is None else None))
    assert set(r.flag_counts().index) <= {f.name.lower() for f in hc.Flag}
    # before 2.0 `se` was that of fisher_z
    d, old = r.dataset, xr.open_dataset(path)
    assert old.attrs["schema_version"] == version
    np.testing.assert_array_equal(d["fisher_z_se"], old["se"])
    np.testing.assert_allclose(d["se"], (1 - d["correlation"] ** 2) * d["fisher_z_se"], rtol=1e-5)
    assert d["se"].attrs["long_name"] == "standard error of the correlation"
    again = r.save(tmp_path / "r.zarr")
    for name in ("correlation", "se", "fisher_z_se"):
        np.testing.assert_array_equal(hc.load(again).matrix(name), r.matrix(name))


def test_every_earlier_schema_is_kept():
    major, minor = map(int, SCHEMA_VERSION.split("."))
    found = {p.stem.split("_")[1] for p in SAVED}
    assert found == {f"1.{k}" for k in range(5)} | {f"{major}.{k}" for k in range(minor)}
    adata = hc.datasets.glioblastoma()
    r = hc.CSCore(adata, "patient_id", depth="total_counts", genes=5).fit()
    assert r.dataset.attrs["schema_version"] == SCHEMA_VERSION
    assert r.dataset.attrs["hiercorr_version"] == hc.__version__


def test_a_later_schema_is_refused(tmp_path):
    adata = hc.datasets.glioblastoma()
    r = hc.CSCore(adata, "patient_id", depth="total_counts", genes=5).fit()
    major = int(SCHEMA_VERSION.split(".")[0])
    later = hc.CorrelationResult(r.dataset.assign_attrs(schema_version=f"{major + 1}.0"))
    later.save(tmp_path / "r.nc")
    with pytest.raises(
        hc.InputError, match=r"has schema version .*install the version that wrote it"
    ):
        hc.load(tmp_path / "r.nc")


def test_one_version_everywhere():
    root = Path(__file__).parent.parent
    citation = (root / "CITATION.cff").read_text()
    assert re.search(rf"^version: \"?{re.escape(hc.__version__)}\"?$", citation, re.M)
    assert f"## {hc.__version__}" in (root / "CHANGELOG.md").read_text()
    assert re.fullmatch(r"\d+\.\d+\.\d+", hc.__version__)
    assert tomllib.loads((root / "pyproject.toml").read_text())["project"]["dynamic"] == ["version"]


MODULES = [
    "datasets",
    "enrichment",
    "modules",
    "planning",
    "plotting",
    "simulate",
    "specification",
    "reporting",
    "bayes",
]


def public_objects():
    seen = {}
    for name in hc.__all__:
        if not name.startswith("__"):
            seen[f"hiercorr.{name}"] = getattr(hc, name)
    for name in MODULES:
        module = importlib.import_module(f"hiercorr.{name}")
        for key in getattr(module, "__all__", None) or [
            k for k in vars(module) if not k.startswith("_")
        ]:
            value = getattr(module, key)
            own = value.__module__ == module.__name__ if hasattr(value, "__module__") else False
            if (inspect.isfunction(value) or inspect.isclass(value)) and (
                own or hasattr(module, "__all__")
            ):
                seen[f"hiercorr.{name}.{key}"] = value
    for name, value in list(seen.items()):
        if inspect.isclass(value):
            for key, member in vars(value).items():
                target = member.fget if isinstance(member, property) else member
                if not key.startswith("_") and inspect.isfunction(target):
                    seen[f"{name}.{key}"] = target
    return seen


def test_every_public_name_has_a_docstring_with_its_parameters():
    missing = []
    for name, value in public_objects().items():
        text = inspect.getdoc(value) or ""
        if len(text) < 15:
            missing.append(f"{name}: no docstring")
        elif inspect.isfunction(value):
            known = [
                p
                for p in inspect.signature(value).parameters.values()
                if p.name not in ("self", "cls")
            ]
            for p in known:
                if not re.search(rf"(^|\W){re.escape(p.name)}(\W|$)", text):
                    missing.append(f"{name}: parameter {p.name}")
    assert not missing, "\n".join(missing)


def test_public_functions_are_typed():
    untyped = []
    for name, value in public_objects().items():
        if inspect.isfunction(value):
            hints = value.__annotations__
            wanted = [p for p in inspect.signature(value).parameters if p not in ("self", "cls")]
            untyped += [f"{name}: {p}" for p in [*wanted, "return"] if p not in hints]
    assert not untyped, "\n".join(untyped)
    assert (Path(hc.__file__).parent / "py.typed").exists()


def test_public_names():
    for name in hc.__all__:
        assert getattr(hc, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        hc.nothing  # noqa: B018
    assert set(dir(hc)) == set(hc.__all__)


@pytest.mark.usefixtures("undrawn")
def test_readme_code_runs(tmp_path, monkeypatch, quiet):
    import matplotlib
    import matplotlib.pyplot as plt

    matplotlib.use("Agg")
    text = (Path(__file__).parent.parent / "README.md").read_text()
    monkeypatch.chdir(tmp_path)
    blocks = re.findall(r"```python\n(.*?)```", text, flags=re.DOTALL)
    assert len(blocks) >= 3
    code = "\n".join(blocks).replace(
        "draws=500", "draws=100, tune=100, chains=2"
    )  # what is sampled is tested elsewhere
    exec(code, {})
    plt.close("all")
    assert (tmp_path / "cdk1.html").exists()
