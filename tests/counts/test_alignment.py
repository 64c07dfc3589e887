"""Series are aligned by their index, levels have one name each, sums of entries are exact."""

import warnings

import anndata as ad
import numpy as np
import pandas as pd
import pytest
from scipy import sparse

import hiercorr as hc
from hiercorr.counts.read import read_counts
from hiercorr.counts.selection import Selection, in_order
from hiercorr.simulate import simulate_counts

pytestmark = pytest.mark.filterwarnings(
    "ignore::hiercorr.DataWarning", "ignore::hiercorr.EstimationWarning"
)


@pytest.fixture(scope="module")
def data():
    made, _ = simulate_counts(6, 40, 8, mean=4, within=0.4, seed=3)
    made.obs["arm"] = np.where(made.obs["sample"].isin(made.obs["sample"].unique()[:3]), "a", "b")
    made.obs["type"] = np.where(np.arange(made.n_obs) % 2, "T", "B")
    return made


def shuffled(values, names):
    series = pd.Series(values, names)
    order = np.random.default_rng(1).permutation(len(names))
    return series.iloc[order]


DOORS = {
    "CSCore": lambda d, **o: hc.CSCore(d, "sample", **o).fit(target="gene1", uncertainty="none"),
    "Pseudobulk": lambda d, **o: hc.Pseudobulk(d, "sample", **o).fit(target="gene1"),
    "CellCorrelation": lambda d, **o: hc.CellCorrelation(d, "sample", **o).fit(target="gene1"),
    "differential": lambda d, **o: hc.differential(
        d, "sample", "arm", target="gene1", method="pooled", uncertainty="jackknife", **o
    ),
    "aggregate": lambda d, **o: hc.aggregate(d, "sample", **o),
    "check_design": lambda d, **o: hc.check_design(d, "sample", **o),
}
OPTIONS = {
    "depth": lambda d: (d.obs["depth"].to_numpy(), d.obs_names),
    "subset": lambda d: (np.arange(d.n_obs) % 3 > 0, d.obs_names),
    "genes": lambda d: (np.arange(d.n_vars) % 4 > 0, d.var_names),
}


def numbers(found):
    if isinstance(found, hc.CorrelationResult):
        return found.dataset["correlation"].values, found.dataset.attrs
    if isinstance(found, ad.AnnData):
        return np.asarray(found.X), {k: v for k, v in found.uns.items() if k == "x"}
    return found.samples.select_dtypes("number").to_numpy(), {}


@pytest.mark.parametrize("option", OPTIONS)
@pytest.mark.parametrize("door", DOORS)
def test_series_are_aligned_by_their_index(data, door, option):
    if option == "genes" and door in ("aggregate", "check_design"):
        pytest.skip("has no genes=")
    values, names = OPTIONS[option](data)
    call = DOORS[door]
    others = {} if option == "depth" or door == "check_design" else {"depth": "depth"}
    wanted, attrs = numbers(call(data, **{option: values}, **others))
    found, same = numbers(call(data, **{option: shuffled(values, names)}, **others))
    np.testing.assert_array_equal(found, wanted)
    attrs.pop("created", None), same.pop("created", None)
    assert {k: str(v) for k, v in same.items()} == {k: str(v) for k, v in attrs.items()}
    more = pd.concat([shuffled(values, names), pd.Series(values[:1], ["another"])])
    np.testing.assert_array_equal(numbers(call(data, **{option: more}, **others))[0], wanted)
    with pytest.raises(hc.InputError, match=rf"{option} is a Series whose index does not name all"):
        call(data, **{option: pd.Series(values)}, **others)


def test_series_that_cannot_be_aligned():
    names = pd.Index(["a", "b"])
    with pytest.raises(hc.InputError, match="more than once"):
        in_order("subset", pd.Series([True, False, True], ["a", "b", "a"]), names)
    with pytest.raises(hc.InputError, match="'b': fill them"):
        in_order("subset", pd.Series([True, None], ["a", "b"], dtype="boolean"), names)
    mask = in_order("subset", pd.Series([True, False], ["b", "a"], dtype="boolean"), names)
    assert mask.dtype == bool
    assert mask.tolist() == [False, True]
    assert list(in_order("genes", pd.Series(["x", "y"], [5, 6]), names)) == ["x", "y"]


def test_missing_depths_of_nullable_columns_are_named(data):
    changed = data.copy()
    changed.obs["depth"] = changed.obs["depth"].astype("Float64")
    changed.obs.iloc[3, changed.obs.columns.get_loc("depth")] = pd.NA
    with pytest.raises(hc.InputError, match="1 cells have a depth that is missing"):
        hc.CSCore(changed, "sample", depth="depth")
    with pytest.raises(hc.InputError, match="depth"):
        hc.CSCore(changed, "sample", depth=changed.obs["depth"])


def relabelled(data, **columns):
    out = data.copy()
    for name, values in columns.items():
        out.obs[name] = pd.Series(values, out.obs_names, dtype=object)
    return out


def test_combinations_of_two_columns_are_not_merged(data):
    half = np.arange(data.n_obs) % 2 == 0
    merged = relabelled(data, p=np.where(half, "a|b", "a"), q=np.where(half, "c", "b|c"))
    with pytest.raises(hc.InputError, match=r"joined name 'a\|b\|c'"):
        read_counts(merged, Selection(("p", "q"), depth="depth"))
    with pytest.raises(hc.InputError, match=r"joined name 'a\|b\|c'"):
        hc.aggregate(merged, "p", "q", depth="depth")
    apart = relabelled(data, p=np.where(half, "a|b", "a"), q=np.where(half, "c", "d"))
    assert list(read_counts(apart, Selection(("p", "q"), depth="depth")).samples) == [
        "a|b|c",
        "a|d",
    ]


MIXED = {
    "sample": lambda d: hc.CSCore(d, "x", depth="depth"),
    "sample of Pseudobulk": lambda d: hc.Pseudobulk(d, "x", depth="depth"),
    "two columns": lambda d: read_counts(d, Selection(("x", "arm"), depth="depth")),
    "cell type": lambda d: hc.aggregate(d, "sample", "x", depth="depth"),
    "by_cell_type": lambda d: hc.by_cell_type(d, "x", "sample", depth="depth"),
}
OF_SAMPLES = {
    "block": lambda d: hc.CSCore(d, "sample", block="x", depth="depth"),
    "block between": lambda d: hc.Pseudobulk(d, "sample", block="x", depth="depth").fit(),
    "formula": lambda d: hc.Pseudobulk(d, "sample", formula="~ x", depth="depth").fit(),
    "condition": lambda d: hc.differential(d, "sample", "x", depth="depth"),
}


@pytest.mark.parametrize("door", [*MIXED, *OF_SAMPLES])
def test_levels_1_and_text_1_are_refused(data, door):
    k = np.arange(data.n_obs)
    if door in OF_SAMPLES:
        k = pd.factorize(data.obs["sample"])[0]
    values = np.array([1, "1", 2], object)[k % 3]
    with pytest.raises(hc.InputError, match="1 and '1', which have the same name"):
        (MIXED | OF_SAMPLES)[door](relabelled(data, x=values))


@pytest.mark.parametrize("dtype", [np.uint8, np.int8, np.int16, np.uint16, np.float32])
@pytest.mark.parametrize("kind", ["csr", "csc", "coo layer"])
def test_duplicate_entries_add_up_exactly(dtype, kind):
    top = 2**24 if dtype == np.float32 else np.iinfo(dtype).max
    n = 40
    rows = np.repeat(np.arange(n), 4)
    columns = np.tile([0, 0, 0, 1], n)
    values = np.tile(np.array([top, top, 1, 3], dtype), n)
    made = sparse.coo_matrix((values, (rows, columns)), (n, 2))
    order = np.argsort(columns, kind="stable")
    if kind == "csc":
        indptr = np.searchsorted(columns[order], np.arange(3))
        matrix = sparse.csc_matrix((values[order], rows[order], indptr), (n, 2))
    elif kind == "csr":
        matrix = sparse.csr_matrix((values, columns, np.arange(0, 4 * n + 1, 4)), (n, 2))
    else:
        matrix = made
    obs = pd.DataFrame({"sample": np.repeat(["a", "b"], n // 2)}, [f"c{i}" for i in range(n)])
    from hiercorr.counts.sources import Source, blocks

    before = matrix.data.copy()
    found = next(iter(blocks(Source(obs, pd.Index(["x", "y"]), matrix, "X"))))[2]
    assert found.toarray()[:, 0].tolist() == [2 * int(top) + 1] * n
    np.testing.assert_array_equal(matrix.data, before)
    if kind != "coo layer":
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            adata = ad.AnnData(matrix, obs=obs, var=pd.DataFrame(index=["x", "y"]))
        assert hc.aggregate(adata, "sample").X[0].tolist() == [20 * (2 * int(top) + 1), 60]


NO_DEPTHS = {
    "times": lambda n: pd.date_range("2020", periods=n).to_numpy(),
    "durations": lambda n: np.arange(1, n + 1).astype("timedelta64[s]"),
    "complex": lambda n: np.arange(1, n + 1) + 1j,
    "switches": lambda n: np.ones(n, bool),
    "a switch among objects": lambda n: np.array([True, *range(2, n + 1)], object),
    "texts of digits": lambda n: np.arange(1, n + 1).astype(str),
    "texts among objects": lambda n: np.array(["1", *range(2, n + 1)], object),
}


@pytest.mark.parametrize("kind", NO_DEPTHS)
@pytest.mark.parametrize("door", DOORS)
def test_depths_that_numpy_would_turn_into_numbers(data, door, kind):
    values = NO_DEPTHS[kind](data.n_obs)
    given = [values, pd.Series(values, data.obs_names)]
    if "switch" in kind:  # numpy makes numbers of them as soon as it sees the list
        given.append([True, *range(2, data.n_obs + 1)])
    if kind != "complex":
        data = data.copy()
        data.obs["odd"] = values
        given.append("odd")
    for depth in given:
        with pytest.raises(hc.InputError, match=r"depth (must be a number|column 'odd' is not)"):
            DOORS[door](data, depth=depth)
