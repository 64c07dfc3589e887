"""Results of differences, partial or exploratory correlations are not taken for correlations."""

import pytest

import hiercorr as hc
from hiercorr.modules import find_modules
from hiercorr.simulate import simulate_counts

pytestmark = pytest.mark.filterwarnings(
    "ignore::hiercorr.DataWarning", "ignore::hiercorr.EstimationWarning"
)


@pytest.fixture(scope="module")
def kinds():
    adata, _ = simulate_counts(8, 80, 6, mean=3, within=0.5, seed=1)
    adata.obs["arm"] = adata.obs["sample"].isin(sorted(set(adata.obs["sample"]))[:4])
    adata.obs["arm"] = adata.obs["arm"].map({True: "a", False: "b"})
    options = {"sample": "sample", "depth": "depth"}
    model = hc.CSCore(adata, **options)
    return {
        "within": model.fit(),
        "between": hc.Pseudobulk(adata, **options).fit(),
        "differential": hc.differential(adata, condition="arm", **options),
        "direct": hc.direct_partners(model, seed=1),
        "cells": hc.CellCorrelation(adata, **options).fit(),
    }


@pytest.mark.parametrize(
    ("kind", "what"),
    [
        ("differential", "differences of correlation"),
        ("direct", "partial correlations"),
        ("cells", "exploratory correlations"),
    ],
)
def test_evidence_is_of_correlations(kinds, kind, what):
    with pytest.raises(hc.InputError, match=f"within= is of {what} .*: use"):
        hc.evidence("gene0", within=kinds[kind], between=kinds["between"])


def test_evidence_refuses_what_is_not_the_layer(kinds):
    both = {"within": kinds["within"], "between": kinds["between"]}
    with pytest.raises(hc.InputError, match="bayesian= needs a result of BayesianCorrelation"):
        hc.evidence("gene0", **both, bayesian=kinds["within"])
    with pytest.raises(hc.InputError, match="exploratory= is of differences"):
        hc.evidence("gene0", **both, exploratory=kinds["differential"])
    assert len(hc.evidence("gene0", **both, exploratory=kinds["cells"]).table) == 5


def test_compare_is_of_one_quantity(kinds):
    with pytest.raises(hc.InputError, match="result 'p' is of partial correlations"):
        hc.compare({"m": kinds["within"], "p": kinds["direct"]})
    with pytest.raises(hc.InputError, match="result 'd' is of differences"):
        hc.compare({"d": kinds["differential"]})
    alone = hc.compare({"p": kinds["direct"]}).table
    assert set(alone["scale"]) == {"log expression, partial"}


def test_modules_are_of_correlations(kinds):
    with pytest.raises(hc.InputError, match="result is of differences of correlation"):
        find_modules(kinds["differential"])
    assert len(find_modules(kinds["direct"], q=None).genes) == 6


@pytest.mark.slow
def test_report_joins_correlations_only(kinds, tmp_path, undrawn):
    from click.testing import CliRunner

    from hiercorr.cli import main

    paths = [
        str(kinds[k].save(tmp_path / f"{k}.nc")) for k in ("differential", "within", "between")
    ]
    done = CliRunner().invoke(
        main, ["report", *paths, "--gene", "gene0", "-o", str(tmp_path / "r.html")]
    )
    assert done.exit_code == 0, done.output
    assert "cell-state only" in (tmp_path / "r.html").read_text()


def test_evidence_names_the_result_without_the_target(kinds):
    adata, _ = simulate_counts(8, 80, 6, mean=3, within=0.5, seed=1)
    few = hc.Pseudobulk(adata, "sample", depth="depth", genes=["gene0", "gene1"]).fit()
    with pytest.raises(hc.InputError, match="between= has no pairs of 'gene3': unknown gene"):
        hc.evidence("gene3", within=kinds["within"], between=few)


def test_results_are_counted_in_english(kinds):
    from hiercorr.cli.options import table_text
    from hiercorr.results.layout import scope

    one = kinds["within"].pairs(n=1)
    assert "8.000" not in table_text(one.assign(n_samples=8, n_donors=8.0))
    adata, _ = simulate_counts(8, 80, 6, mean=3, within=0.5, seed=1)
    listed = hc.CSCore(adata, "sample", depth="depth").fit(pairs=[("gene0", "gene1")])
    assert scope(listed.dataset) == "1 listed pair"
