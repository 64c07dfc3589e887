"""Tables of a result."""

import numpy as np
import pytest
import xarray as xr

import hiercorr as hc
from hiercorr.results import tables


def test_tables(result, one):
    top = result.top("gene0", 4)
    assert len(top) == 4
    assert "gene0" not in top.index
    assert top["p_value"].is_monotonic_increasing
    assert one.top(n=4).index.tolist() == top.index.tolist()
    pairs = result.pairs(q=0.2, min_correlation=0.1)
    assert (pairs["q_value"] <= 0.2).all()
    assert (pairs["correlation"].abs() >= 0.1).all()
    assert (pairs["gene_a"] != pairs["gene_b"]).all()
    upper = result.dataset[["correlation", "p_value"]].to_array().values[:, *np.triu_indices(12, 1)]
    n = int(np.isfinite(upper).any(0).sum())
    assert len(result.pairs()) == n
    assert result.matrix("se").shape == (12, 12)
    assert list(result.sample_table().columns) == ["n_cells", "depth"]
    a, b = result.sample_table("gene0", "gene1"), one.sample_table("gene1")
    np.testing.assert_allclose(a["correlation"], b["correlation"], rtol=1e-4)
    assert result.flag_counts()["low_information"] > 0
    flag = result.dataset["flag"].values
    upper = flag[np.triu_indices(len(flag), 1)]
    for name, count in result.flag_counts().items():
        assert count == int(((upper & int(hc.Flag[name.upper()])) > 0).sum())
    every = result.dataset.assign(flag=result.dataset["flag"] | int(hc.Flag.LOW_INFORMATION))
    counts = hc.CorrelationResult(every).flag_counts()
    assert counts["low_information"] == len(upper)
    for call, text in (
        (lambda: result.top("gen0"), "unknown gene 'gen0'; did you mean"),
        (lambda: result.top(), "name a gene"),
        (lambda: one.top("gene1"), "target 'gene0' only"),
        (lambda: result.matrix("corelation"), "did you mean 'correlation'"),
        (lambda: result.sample_table("gene0", "geneX"), "unknown gene"),
    ):
        with pytest.raises(hc.InputError, match=text):
            call()


def test_draws_of_one_coefficient_per_gene():
    draws = np.random.default_rng(0).normal([[1.0, -2.0], [0.5, 0.0]], 0.1, (2, 300, 2, 2))
    dataset = xr.Dataset(
        {"posterior_beta": (("chain", "draw", "coefficient", "gene"), draws)},
        {"coefficient": ["Intercept", "age"], "gene": ["A", "B"]},
        {"confidence": 0.9},
    )
    table = tables.coefficients(dataset, None)
    assert table.index.names == ["coefficient", "gene"]
    np.testing.assert_allclose(table["beta"], draws.mean((0, 1)).ravel())
    age = tables.coefficients(dataset, "age")
    assert list(age.index) == ["A", "B"]  # strongest evidence first
    inside = (draws[..., 1, 0] >= age.loc["A", "beta_lower"]) & (
        draws[..., 1, 0] <= age.loc["A", "beta_upper"]
    )
    assert inside.mean() == pytest.approx(0.9, abs=0.01)
