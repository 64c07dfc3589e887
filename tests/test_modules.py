"""Modules of genes: planted ones are found, are stable, and are exported."""

import networkx as nx
import numpy as np
import pandas as pd
import pytest

import hiercorr as hc
from hiercorr.modules import find_modules, write_graphml
from hiercorr.simulate import simulate_counts

pytestmark = pytest.mark.filterwarnings(
    "ignore::hiercorr.DataWarning", "ignore::hiercorr.EstimationWarning"
)


@pytest.fixture(scope="module")
def planted():
    m = np.eye(30)
    for k, size in ((0, 10), (10, 7)):
        m[k : k + size, k : k + size] = 0.6
    np.fill_diagonal(m, 1)
    adata, _ = simulate_counts(6, 300, 30, mean=2.0, within=m, seed=5)
    return adata, hc.CSCore(adata, "sample", depth="depth").fit()


@pytest.mark.parametrize("method", ["leiden", "hierarchical"])
def test_planted_modules_are_found_and_stable(planted, method):
    adata, r = planted

    def without(s):
        return hc.CSCore(
            adata, "sample", depth="depth", subset=(adata.obs["sample"] != s).to_numpy()
        ).fit()

    found = find_modules(r, method, min_correlation=0.3, without=without)
    assert set(found.of(1)) == {f"gene{j}" for j in range(10)}
    assert set(found.of(2)) == {f"gene{j}" for j in range(10, 17)}
    assert (found.table.loc[[1, 2], "stability"] > 0.9).all()
    assert (found.genes.loc[[f"gene{j}" for j in range(17, 30)], "module"] == 0).all()
    again = find_modules(r, method, min_correlation=0.3)
    pd.testing.assert_frame_equal(found.genes, again.genes)


def test_number_of_modules(planted):
    assert (
        find_modules(planted[1], "hierarchical", q=None, n_modules=2, min_size=2)
        .genes["module"]
        .max()
        <= 2
    )


def test_no_module_is_warned_of(planted):
    n = len(planted[1].genes)
    for options in ({"method": "hierarchical", "n_modules": n}, {"min_size": n}):
        with pytest.warns(hc.DataWarning, match=r"there is no module: no group .* lower min_size="):
            assert not len(find_modules(planted[1], q=None, **options).table)


def test_graphml(planted, tmp_path):
    modules = find_modules(planted[1], min_correlation=0.3)
    graph = nx.read_graphml(
        write_graphml(planted[1], tmp_path / "g.graphml", min_correlation=0.3, modules=modules)
    )
    assert graph.nodes["gene0"]["module"] == 1
    assert graph.has_edge("gene0", "gene1")
    table = planted[1].pairs(q=0.05, min_correlation=0.3)
    assert graph.number_of_edges() == len(table)


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"method": "kmeans"}, "method must be one of"),
        ({"min_correlation": 0.99}, "nothing to group"),
        ({"method": "hierarchical", "n_modules": 1000}, "n_modules=1000 is more than the"),
        ({"min_size": 1000}, "min_size=1000 is more than the .* genes"),
    ],
)
def test_bad(planted, options, match):
    with pytest.raises(hc.InputError, match=match):
        find_modules(planted[1], **options)


def test_needs_all_pairs(planted):
    r = hc.CSCore(planted[0], "sample", depth="depth").fit(target="gene0")
    with pytest.raises(hc.InputError, match="modules need all pairs"):
        find_modules(r)
    with pytest.raises(hc.InputError, match="there is no module 99"):
        find_modules(planted[1]).of(99)
