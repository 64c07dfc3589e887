"""BayesianCorrelation: covariates, blocks, absent genes, refusals."""

import warnings

import pytest

import hiercorr as hc
from hiercorr.simulate import simulate_counts
from tests.bayes.support import model_of

pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::hiercorr.DataWarning")


def test_covariates_blocks_and_absent_genes():
    adata, _ = simulate_counts(
        8,
        60,
        2,
        mean=[2.0, 2.0],
        within=0.4,
        seed=4,
        covariates={"arm": (["a", "b"] * 4, 1.0)},
        donor=["d1", "d1", "d2", "d2", "d3", "d3", "d4", "d4"],
    )
    x = adata.X.toarray()
    x[(adata.obs["sample"] == "s3").to_numpy(), 0] = 0
    adata.X = x
    with pytest.warns(hc.DataWarning, match="use block='donor'"):
        hc.BayesianCorrelation(adata, "sample", depth="depth")
    model = hc.BayesianCorrelation(adata, "sample", formula="~ arm", block="donor", depth="depth")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        r = model.fit(draws=200, tune=300, chains=2, seed=1)
    assert r.flag_counts()["absent_in_sample"] == 1
    beta = r.dataset["posterior_beta"].sel(coefficient="arm[T.b]").values[..., 0, 0]  # gene0
    assert beta.mean() == pytest.approx(1.0, abs=3 * float(beta.std()))
    table = r.coefficients()
    assert len(table) == 2 * 2  # coefficients and genes of the pair
    row = table.loc[("arm[T.b]", "gene0", "gene1")]
    assert row["beta"] == pytest.approx(float(beta.mean()))
    assert row["beta_lower"] < row["beta"] < row["beta_upper"]
    assert r.coefficients("arm[T.b]").index.names == ["gene", "partner"]
    with pytest.raises(hc.InputError, match=r"unknown coefficient 'arm'; did you mean 'arm\[T\.b"):
        r.coefficients("arm")
    share = r.dataset["posterior_share"].values[..., 0]
    assert ((share > 0) & (share < 1)).all()
    with pytest.raises(hc.InputError, match="fit_many has no block="):
        model.fit_many("gene0")


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"priors": {"z_betwen": {}}}, "unknown prior 'z_betwen'; did you mean 'z_between'"),
        (
            {"priors": {"tau": {"distribution": "lkj", "eta": 2}}},
            "prior 'tau' must be halfnormal or lognormal, not 'lkj'",
        ),
        (
            {"priors": {"tau": {"distribution": "halfnormal", "sigma": -1}}},
            "sigma must be a positive number, not -1",
        ),
        ({"priors": {"tau": {"distribution": "halfnormal"}}}, "needs sigma"),
        (
            {"priors": {"tau": {"distribution": "halfnormal", "scale": 1}}},
            "unknown parameter of prior 'tau'",
        ),
        ({"priors": "nowhere.toml"}, "there is no such file"),
        ({"priors": 3}, "must be a mapping or a TOML file"),
        ({"structure": "all"}, "structure must be one of"),
        ({"many_cells": "some"}, "many_cells must be one of"),
        ({"sample": None}, "sample= is needed"),
        ({"block": "batch"}, "unknown block column 'batch'"),
        ({"block": "half"}, "block 'half' has 2 values"),
        ({"block": "depth"}, "varies within samples"),
        ({"formula": "~ sample"}, "confounded with the sample"),
        ({"subset": {"sample": ["s1", "s2"]}}, "2 samples: correlation between samples"),
        ({"genes": ["gene0", "nix"]}, "unknown gene 'nix'"),
    ],
)
def test_refusals(options, text):
    adata, _ = simulate_counts(4, 30, 3, mean=2.0, seed=1)
    adata.obs["half"] = adata.obs["sample"].isin(["s1", "s2"]).map({True: "x", False: "y"})
    with pytest.raises(hc.InputError, match=text):
        model_of(adata, **options)


def test_swapped_names_of_samples_and_donors():
    adata, _ = simulate_counts(6, 30, 3, mean=2.0, seed=1)
    adata.obs["donor"] = adata.obs["sample"].cat.codes // 2
    adata.obs["donor"] = "d" + adata.obs["donor"].astype(str)
    with pytest.raises(hc.InputError, match="names are swapped; use sample='sample'"):
        model_of(adata, sample="donor", block="sample")
