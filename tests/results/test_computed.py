"""Pair variables that are computed when they are read equal those that are kept."""

import pickle

import numpy as np
import pandas as pd
import pytest
import xarray as xr

import hiercorr as hc
from hiercorr.results import computed, tiling
from tests.support import fit

FITS = {
    "hierarchical": {"uncertainty": "hierarchical"},
    "jackknife": {"uncertainty": "jackknife", "precision": "double"},
    "bootstrap": {"uncertainty": "bootstrap", "n_bootstrap": 200, "seed": 1, "confidence": 0.8},
    "none": {"uncertainty": "none"},
    "pooled": {"estimator": "pooled"},
    "pooled, one group": {"estimator": "pooled", "uncertainty": "none"},
}
FOLLOW = {"fisher_z", "fisher_z_se", "ci_lower", "ci_upper", "q_value"}


@pytest.fixture(scope="module", params=FITS)
def both(request, forty_genes):
    """The same fit with all variables kept, and with those that follow from others computed."""
    kept = fit(forty_genes, **FITS[request.param])
    with pytest.MonkeyPatch.context() as m:
        m.setattr(tiling, "COMPUTED_FROM", 0)
        m.setattr(computed, "_BLOCK", 150)  # a few rows at a time
        later = fit(forty_genes, **FITS[request.param])
    return request.param, kept, later


def computed_variables(dataset):
    return {str(name) for name, v in dataset.data_vars.items() if computed.is_computed(v)}


def same(a, b):
    """All equal; p-values and q-values of many pairs are in single precision."""
    a, b = (d.drop_attrs(deep=False) for d in (a, b))
    rounded = [n for n in ("p_value", "q_value") if n in a]
    xr.testing.assert_identical(a.drop_vars(rounded), b.drop_vars(rounded))
    xr.testing.assert_allclose(a[rounded], b[rounded], rtol=1e-6)


def same_table(a, b):
    pd.testing.assert_frame_equal(a, b, rtol=1e-6)


def test_every_variable_is_there_and_equal(both):
    which, kept, later = both
    of_test = {
        "hierarchical": FOLLOW | {"df"},
        "none": {"fisher_z"},
        "pooled, one group": {"fisher_z", "cell_p_value"},
        "pooled": FOLLOW | {"statistic", "p_value", "cell_p_value"},
    }
    assert computed_variables(later.dataset) == of_test.get(
        which, FOLLOW | {"statistic", "p_value"}
    )
    assert not computed_variables(kept.dataset)
    same(later.dataset, kept.dataset)
    for name, values in kept.dataset.data_vars.items():
        if name not in ("p_value", "q_value"):
            assert later.dataset[name].dtype == values.dtype, name
        assert later.dataset[name].attrs.keys() == values.attrs.keys(), name


def test_matrices_are_symmetric_and_genes_are_not_compared_with_themselves(both):
    _, _, later = both
    for name in computed_variables(later.dataset):
        values = later.dataset[name].values
        np.testing.assert_array_equal(values, values.T, err_msg=name)
        assert np.isnan(np.diag(values)).all(), name


@pytest.mark.parametrize(
    "part",
    [
        {"gene": 3},
        {"gene": -1, "partner": 2},
        {"gene": slice(30, 2, -4), "partner": [5, 1, 1]},
        {"partner": np.arange(40) % 3 == 0},
        {"gene": xr.DataArray([3, 0], dims="pair"), "partner": xr.DataArray([7, 9], dims="pair")},
        {"gene": []},
    ],
)
def test_parts_are_those_of_the_whole(both, part):
    _, kept, later = both
    same(later.dataset.isel(part), kept.dataset.isel(part))
    same(later.dataset.isel(part).transpose(), kept.dataset.isel(part).transpose())


def test_nothing_is_kept_but_q_values(both):
    _, _, later = both
    later.dataset.compute()
    assert all(not later.dataset[n].variable._in_memory for n in computed_variables(later.dataset))


def test_tables_and_texts_are_the_same(both):
    which, kept, later = both
    for call in (
        lambda r: r.top("gene39", 5),
        lambda r: r.pairs(n=7),
        lambda r: r.pairs(min_correlation=0.2),
        lambda r: r.matrix("fisher_z"),
        lambda r: r.flag_counts().to_frame(),
    ):
        same_table(call(later), call(kept))
    ours, theirs = str(later.summary("gene39", 5)), str(kept.summary("gene39", 5))
    assert ours.split("Created")[0] == theirs.split("Created")[0]
    if "none" not in which and "one group" not in which:
        same_table(later.pairs(q=0.5), kept.pairs(q=0.5))
        same(later.adjust("by").dataset, kept.adjust("by").dataset)


def test_blocks_of_rows_give_the_same_tables(both, monkeypatch):
    _, kept, later = both
    monkeypatch.setattr(hc.results.pairs, "_PART", 130)
    same_table(later.pairs(n=7), kept.pairs(n=7))
    assert later.flag_counts().equals(kept.flag_counts())


@pytest.mark.sampled(4)
@pytest.mark.parametrize("suffix", [".zarr", ".nc"])
def test_files_contain_every_variable(both, tmp_path, suffix):
    _, kept, later = both
    same(hc.load(later.save(tmp_path / f"r{suffix}")).dataset, kept.dataset)


def test_copies_and_other_processes_get_the_same(both):
    _, kept, later = both
    same(pickle.loads(pickle.dumps(later)).dataset, kept.dataset)
    same(later.dataset.copy(deep=True), kept.dataset)


def test_a_copy_can_be_changed_and_the_result_stays(both):
    _, kept, later = both
    changed = later.dataset.copy(deep=True)
    changed["fisher_z"][0, 1] = 7
    assert changed["fisher_z"].values[0, 1] == 7
    same(later.dataset, kept.dataset)


@pytest.mark.sampled(6)
@pytest.mark.usefixtures("undrawn")
def test_a_report_is_the_same(both, tmp_path):
    _, kept, later = both
    sizes = [
        len(hc.report(tmp_path / f"{k}.html", r, gene="gene39", n=50).read_text())
        for k, r in enumerate((kept, later))
    ]
    assert abs(sizes[0] - sizes[1]) < 200  # times and names of files


def test_one_gene_against_all_is_kept(forty_genes, monkeypatch):
    monkeypatch.setattr(tiling, "COMPUTED_FROM", 0)
    assert not computed_variables(fit(forty_genes, target="gene39").dataset)


def test_the_result_needs_less_memory():
    """Pairs of 30,000 genes fit where few of their variables are kept."""
    given = (30_000, 8, None, False, np.float32, 45 * 10**9)
    tiling.check_memory(*given, computed=True)
    with pytest.raises(hc.InputError, match="choose fewer genes"):
        tiling.check_memory(*given)


def test_streamed_results_have_every_variable(forty_genes, tmp_path):
    kept = fit(forty_genes).dataset
    streamed = fit(forty_genes, out=tmp_path / "r.zarr").dataset
    assert set(streamed.data_vars) == set(kept.data_vars)
    for name in FOLLOW - {"q_value"}:
        np.testing.assert_allclose(streamed[name], kept[name], rtol=1e-5, atol=1e-6, err_msg=name)
