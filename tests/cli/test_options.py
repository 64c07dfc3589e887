"""Options that commands share, and odd values of every option."""

import shutil

import anndata as ad
import click
import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner

import hiercorr as hc
from hiercorr.cli import main
from hiercorr.simulate import simulate_counts
from tests.cli.support import run


def test_bad_output_is_refused_before_the_work(path, tmp_path):
    done = run("fit", path, "--sample", "sample", "-o", tmp_path / "r.csv")
    assert done.exit_code == 2
    assert "must end in .zarr or .nc" in done.output


@pytest.fixture(scope="module")
def of_two_types(tmp_path_factory):
    adata, _ = simulate_counts(4, 60, 12, mean=2, within=0.5, seed=1)
    kinds = ["Gene Expression"] * 8 + ["Antibody = Capture"] * 4
    adata.var = pd.DataFrame({"feature_types": kinds}, index=adata.var_names)
    adata.obs["isotype"] = np.random.default_rng(1).uniform(50, 90, adata.n_obs)
    path = tmp_path_factory.mktemp("types") / "a.h5ad"
    adata.write_h5ad(path)
    return path


def test_depths_of_types_of_features(of_two_types, tmp_path):
    base = ("fit", of_two_types, "--sample", "sample", "--modalities", "all", "-o")
    own = ("--depth", "Antibody = Capture=isotype", "--depth", "Gene Expression=depth")
    done = run(*base, tmp_path / "r.zarr", *own)
    assert done.exit_code == 0, done.output
    depth = {"Antibody = Capture": "isotype", "Gene Expression": "depth"}
    right = hc.CSCore(of_two_types, "sample", modalities="all", depth=depth).fit()
    found = hc.load(tmp_path / "r.zarr").dataset
    np.testing.assert_allclose(found["correlation"], right.dataset["correlation"], atol=1e-6)


@pytest.mark.parametrize(
    ("depths", "said"),
    [
        (["depth"], "--depth 'Gene Expression=column of obs'"),
        (["Antibody = Capture=isotype", "depth"], "several depths must be TYPE=COLUMN"),
        (["Peaks=depth"], "unknown type of features (--depth) 'Peaks'"),
        (["Gene Expression=depth", "Gene Expression=isotype"], "names the type 'Gene Expression'"),
        (["Gene Expression=dep"], "depth column 'dep'"),
    ],
)
def test_wrong_depths_of_types(of_two_types, tmp_path, depths, said):
    given = [word for depth in depths for word in ("--depth", depth)]
    base = ("--sample", "sample", "--modalities", "all", "-o", tmp_path / "r.zarr")
    done = run("fit", of_two_types, *base, *given)
    assert done.exit_code == 2
    assert said in done.output


def test_models_in_messages_are_commands(of_two_types, tmp_path):
    name = ad.read_h5ad(of_two_types).var_names[-1]
    base = ("--sample", "sample", "--target", name, "-o", tmp_path / "r.zarr")
    done = run("fit", of_two_types, *base)
    assert "include them with hiercorr fit --modalities all, or name this type in" in done.output
    assert "CSCore(" not in done.output


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Counts and results."""
    folder = tmp_path_factory.mktemp("odd")
    data, _ = simulate_counts(6, 25, 6, mean=3, within=0.4, seed=1)
    data.obs["arm"] = np.where(data.obs["sample"].isin(["s1", "s2", "s3"]), "a", "b")
    data.obs["type"] = np.where(np.arange(data.n_obs) % 2, "A", "B")
    data.write_h5ad(folder / "d.h5ad")
    model = hc.CSCore(data, "sample", depth="depth")
    model.fit().save(folder / "all.zarr")
    model.fit(target="gene0").save(folder / "one.zarr")
    between = hc.Pseudobulk(data, "sample", depth="depth", normalization="cpm")
    between.fit(target="gene0").save(folder / "between.zarr")
    (folder / "s.gmt").write_text("a\tx\tgene0\tgene1\nb\tx\tgene2\tgene3\n")
    return folder


DATA = ["d.h5ad", "--sample", "sample", "--depth", "depth", "--min-cells", "3"]
OUT = ["-o", "o.zarr", "--overwrite", "--quiet"]
ODD = ["nan", "-1", "inf", "", "9" * 23, "x", "=B", ",", "~ )", "{}", "\n", "../..", "d.h5ad", "."]
COMMANDS = {
    "fit": [*DATA, "--target", "gene0", *OUT],
    "differential": [*DATA, "--condition", "arm", "--target", "gene0", *OUT],
    "cell-types": [*DATA, "--types", "type", "--target", "gene0", *OUT],
    "across": [*DATA, "--types", "type", "--type-a", "A", "--type-b", "B", *OUT],
    "signature": [*DATA, "--members", "gene0,gene1", *OUT],
    "score": [*DATA, "--score", "depth", *OUT],
    "find-modules": [*DATA, "--q", "1", "-o", "o.gmt", "--overwrite"],
    "modules": [*DATA, "--sets", "s.gmt", *OUT],
    "module-differences": [*DATA, "--sets", "s.gmt", "--condition", "arm", *OUT],
    "module-traits": [*DATA, "--sets", "s.gmt", "--trait", "arm", *OUT],
    "direct-partners": [*DATA, "--resamples", "5", *OUT],
    "connectivity": [*DATA, "--sets", "s.gmt", "--condition", "arm", "-o", "o.csv", "--overwrite"],
    "preservation": [*DATA, "--sets", "s.gmt", "-o", "o.csv", "--overwrite"],
    "evidence": ["one.zarr", "between.zarr", "-o", "o.csv", "--overwrite"],
    "variability": [*DATA, "--condition", "arm", "-o", "o.csv", "--overwrite"],
    "check": DATA,
    "power": ["within", "--samples", "8", "--cells", "100", "--mean", "1", "--rho", "0.3"],
    "shrink": ["all.zarr", *OUT],
    "report": ["one.zarr", "-o", "o.html"],
    "show": ["all.zarr"],
    "export": ["all.zarr", "-o", "o.csv", "--overwrite"],
    "analyze": [*DATA, "--target", "nowhere", "-o", "an", "--sets", "none", "--quiet"],
}


def test_every_command_is_tried():
    assert set(main.commands) - set(COMMANDS) == {"demo"}


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", COMMANDS)
@pytest.mark.usefixtures("undrawn")
def test_odd_values_end_in_one_line(folder, tmp_path, monkeypatch, name):
    for path in folder.iterdir():
        (shutil.copytree if path.is_dir() else shutil.copy)(path, tmp_path / path.name)
    (tmp_path / "in").mkdir()
    monkeypatch.chdir(tmp_path)
    for option in main.commands[name].params:
        flag = option.opts[-1] if isinstance(option, click.Option) else None
        if getattr(option, "is_flag", False):
            continue
        for value in ODD:
            if flag in ("-o", "--output") and value in ("d.h5ad", ".", "../.."):
                continue  # inputs of the other values
            given = COMMANDS[name]
            line = [name, value, *given[1:]] if flag is None else [name, *given, flag, value]
            done = CliRunner().invoke(main, line)
            assert done.exception is None or isinstance(done.exception, SystemExit), line
            assert done.exit_code in (0, 2), line


REFUSED = {
    "members in a binary file": (
        ["signature", *DATA, "--members", "d.h5ad", *OUT],
        "is not a text file",
    ),
    "a specification that is binary": (["power", "d.h5ad"], "is not valid TOML"),
    "a figure of no format": (["power", *COMMANDS["power"], "--figure", "x"], "--figure 'x' must"),
    "an empty quantity": (["power", *COMMANDS["power"], "--curve", ""], "must be one of"),
    "a formula of nothing": (
        ["differential", *DATA, "--condition", "arm", "--formula", "{}", *OUT],
        "names no column",
    ),
    "a formula without an intercept": (
        ["differential", *DATA, "--condition", "arm", "--formula", "~ 0 + type", *OUT],
        "has no intercept",
    ),
    "q that is no number": (["show", "all.zarr", "--q", "nan"], "must be a number from 0 to 1"),
    "q above 1": (["export", "all.zarr", "--q", "5", "-o", "o.csv"], "a number from 0 to 1"),
    "a report that is no HTML": (["report", "one.zarr", "-o", "x.pdf"], "--output x.pdf must end"),
    "an output without a folder": (
        ["export", "one.zarr", "-o", "nowhere/x.csv"],
        "--output nowhere/x.csv: there is no folder",
    ),
    "no folder of results": (["show", "."], "is a folder, but no result"),
}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("what", REFUSED)
def test_refused(folder, monkeypatch, what):
    monkeypatch.chdir(folder)
    line, text = REFUSED[what]
    done = CliRunner().invoke(main, line)
    assert done.exit_code == 2
    assert text in done.output
    assert done.output.strip().splitlines()[-1].startswith("hiercorr: error: ")
