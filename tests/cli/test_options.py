"""Options that commands share."""

import anndata as ad
import numpy as np
import pandas as pd
import pytest

import hiercorr as hc
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
