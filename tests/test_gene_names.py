"""Genes named by a column of var: every source and every function, against data renamed by hand."""

import warnings

import anndata as ad
import numpy as np
import pandas as pd
import pytest

import hiercorr as hc
from hiercorr import enrichment, planning, plotting
from hiercorr.simulate import simulate_counts
from tests.counts.support import DOORS

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")
GENES = 16
IDS = [f"ENSG{k:011d}" for k in range(GENES)]
SYMBOLS = ["FTL", "CDK1", "TBCE", "TBCE", None, "", *(f"GENE{k}" for k in range(6, GENES))]
NAMES = ["FTL", "CDK1", *(f"TBCE ({i})" for i in IDS[2:4]), *IDS[4:6], *SYMBOLS[6:]]
TARGET, TARGET_ID = "CDK1", IDS[1]
NAMED = {"gene_names": "symbol"}


@pytest.fixture(scope="module")
def data():
    """Cells of 6 libraries of 3 donors; ids as names, symbols in a column."""
    made, _ = simulate_counts(6, 40, GENES, mean=2.0, within=0.4, seed=1)
    code = made.obs["sample"].cat.codes.to_numpy()
    obs = pd.DataFrame(
        {
            "library": (code + 1).astype(str),
            "arm": np.where(code % 2 == 0, "a", "b"),
            "kind": np.where(np.arange(made.n_obs) % 2 == 0, "x", "y"),
        },
        index=[f"AC{i}-{c + 1}" for i, c in enumerate(code)],
    )
    var = pd.DataFrame({"symbol": SYMBOLS, "chromosome": "1", "length": 3.5}, index=IDS)
    return ad.AnnData(made.X, obs=obs, var=var)


@pytest.fixture(scope="module")
def by_hand(data):
    """The same with the names as var_names."""
    other = data.copy()
    other.var_names = NAMES
    return other


def table(result):
    """Return the numbers of a result by gene, and the ids of the genes."""
    partners = result.top(TARGET, n=GENES).drop(columns="flag")
    return partners.dropna(axis=1, how="all"), result.gene_table().get("gene_id")


def sums(samples):
    return samples.to_df(), samples.var.get("gene_id")


def of_posterior(d, o, g):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = hc.BayesianCorrelation(d, "library", [NAMES[0], g, NAMES[7]], **o)
        return model.fit_many(g, seed=1)


# (data, options, target) -> a table of numbers, and the ids of the genes where there are any
CONSUMERS = {
    "CSCore": lambda d, o, g: table(hc.CSCore(d, "library", **o).fit(target=g)),
    "CSCore, one gene more": lambda d, o, g: table(
        hc.CSCore(d, "library", genes=[NAMES[0], IDS[5]], **o).fit(target=g)
    ),
    "cluster": lambda d, o, g: table(
        hc.CSCore(d, "library", scheduler="threads", **o).fit(target=g)
    ),
    "aggregate": lambda d, o, g: sums(hc.aggregate(d, "library", min_counts=1, **o)),
    "Pseudobulk": lambda d, o, g: table(
        hc.Pseudobulk(d, "library", normalization="cpm", min_counts=1, **o).fit(target=g)
    ),
    "corrected": lambda d, o, g: table(
        hc.Pseudobulk(d, "library", normalization="cpm", min_counts=1, **o).fit(
            "corrected", target=g, seed=1
        )
    ),
    "CellCorrelation": lambda d, o, g: table(hc.CellCorrelation(d, "library", **o).fit(target=g)),
    "decompose": lambda d, o, g: table(hc.decompose(d, "library", target=g, **o)),
    "check_design": lambda d, o, g: (
        hc.check_design(d, "library", **o).samples.select_dtypes("number"),
        None,
    ),
    "sum_gene_sets": lambda d, o, g: (
        enrichment.sum_gene_sets(d, {"set": NAMES[6:]}, keep=[g], **o).to_df(),
        None,
    ),
}
MORE = {  # slower, or with columns that a 10x file does not have
    "differential": lambda d, o, g: table(hc.differential(d, "library", "arm", target=g, **o)),
    "by_cell_type": lambda d, o, g: (
        hc.by_cell_type(d, "kind", "library", fit={"target": g}, **o).top(g, n=40).iloc[:, 1:-1],
        None,
    ),
    "BayesianCorrelation": lambda d, o, g: table(of_posterior(d, o, g)),
    "signature": lambda d, o, g: (
        hc.CSCore(d, "library", **o)
        .signature([g, NAMES[0]], weights={g: 2.0, NAMES[0]: 1.0})
        .top(n=GENES)
        .iloc[:, :-1],
        None,
    ),
    "metacells": lambda d, o, g: sums(hc.metacells(d, "library", size=10, seed=1, **o)),
    "CSCore of metacells": lambda d, o, g: table(
        hc.CSCore(hc.metacells(d, "library", size=4, seed=1, **o), "library", depth="depth").fit(
            target=g
        )
    ),
    "metacell_sensitivity": lambda d, o, g: (
        hc.metacell_sensitivity(d, "library", g, [NAMES[0], NAMES[7]], [4], seed=1, **o),
        None,
    ),
    "traps": lambda d, o, g: (hc.traps(d, "library", g, permutations=19, **o).genes, None),
    "pilot": lambda d, o, g: (
        pd.DataFrame(planning.pilot(d, "library", g, NAMES[0], **o)).set_axis(["a", "b"]),
        None,
    ),
    "pair_scatter": lambda d, o, g: (
        drawn(plotting.pair_scatter(d, "library", g, NAMES[0], **o)),
        None,
    ),
    "DESeq2": lambda d, o, g: de(d, o),
}


def drawn(ax):
    points = ax.collections[0].get_offsets()
    return pd.DataFrame(np.asarray(points)).rename(columns={0: ax.get_xlabel(), 1: ax.get_ylabel()})


def de(d, o):
    pytest.importorskip("pydeseq2")
    found = hc.differential_expression(
        d, "library", "~ arm", ("arm", "b", "a"), min_counts=1, **o
    ).drop(columns="flag")
    return found.drop(columns="gene_id", errors="ignore"), found.get("gene_id")


def compare(consumer, named, by_hand, options):
    wanted, _ = consumer(by_hand, {}, TARGET)
    found, gene_id = consumer(named, options, TARGET_ID)
    pd.testing.assert_frame_equal(found, wanted, check_names=False, rtol=1e-4, atol=1e-6)
    if gene_id is not None:
        ids = pd.Series(IDS, NAMES)
        assert gene_id.to_dict() == ids[gene_id.index].to_dict()


@pytest.mark.parametrize("consumer", CONSUMERS)
@pytest.mark.parametrize("door", DOORS)
def test_every_source_through_every_function(door, consumer, data, by_hand, tmp_path):
    options = {**NAMED, **({"layer": "raw"} if door == "raw" else {})}
    if door.startswith("10x"):  # names are symbols there, and the column has ids: exchange them
        data, options = by_hand.copy(), {"gene_names": "gene_ids"}
        data.var["symbol"] = IDS
    compare(CONSUMERS[consumer], DOORS[door](data, tmp_path / "d"), by_hand, options)


@pytest.mark.parametrize("consumer", MORE)
@pytest.mark.parametrize("door", ["AnnData", "h5ad"])
def test_more_functions(door, consumer, data, by_hand, tmp_path):
    compare(MORE[consumer], DOORS[door](data, tmp_path / "d"), by_hand, NAMED)
