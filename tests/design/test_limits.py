"""Covariates of every type, infinite values, and formulas that would never end."""

import time

import numpy as np
import pandas as pd
import pytest

import hiercorr as hc
from hiercorr.design.formulas import parse
from hiercorr.design.matrix import make_design
from hiercorr.simulate import simulate_counts

pytestmark = pytest.mark.filterwarnings(
    "ignore::hiercorr.DataWarning", "ignore::hiercorr.EstimationWarning"
)

ENDLESS = [
    "~ I(9**9**9**9)",
    "~ I(a**9**9**9)",
    "~ I(((((a**20)**20)**20)**20)**20)",
    "~ I(1 << 10**10)",
    "~ I('a' * 10**10)",
    "~ I([1] * 10**10)",
    "~ np.log(a**99999999)",
    "~ (a + b)**100000000",
    "~ (a + b)^100000000",
    "~ (a + b + c + d + e + f + g + h)**8 * (i + j + k)**3",
    "~ " + "*".join("abcdefghijklmnop"),
    "~ (" + "+".join(f"x{i}" for i in range(200)) + ")**3",
    "~ a**(9**9**9)",
    "~ (a + b)**-1",
    "~ poly(a, 10**9)",
    "~ poly(a, degree=1000000)",
    "~ bs(a, df=99999999)",
    "~ hashed(a, levels=99999999)",
    "~ " + "+".join(f"x{i}" for i in range(5000)),
    "~ " + "(" * 5000 + "a" + ")" * 5000,
]
ENDING = [
    "~ a + b",
    "~ a * b + I(a**2)",
    "~ (a + b + c)**2",
    "~ (a + b)^2",
    "~ a / b",
    "~ a : b",
    "~ `odd name` * b",
    "~ poly(a, 3) + bs(b, df=4)",
    "~ bs(a, knots=[1000, 5000])",
    "~ I(a > 100000) + np.log1p(a / 1e6)",
    "~ I(a**2 + b**3)",
    "~ C(a, contr.treatment('x')) - 1",
    "~ 1",
    "~ 0 + a",
]


@pytest.mark.parametrize("formula", ENDLESS)
def test_endless_formulas_are_refused_at_once(formula):
    start = time.perf_counter()
    with pytest.raises(hc.InputError):
        parse(formula)
    assert time.perf_counter() - start < 2


@pytest.mark.parametrize("formula", ["", "~", "\n", "-1", "~ 0", "{}", "[1]", "~ I(1)"])
def test_formulas_that_name_no_column(formula):
    with pytest.raises(hc.InputError, match="names no column: leave it out"):
        parse(formula)


@pytest.mark.parametrize("formula", ENDING)
def test_formulas_of_an_analysis_pass(formula):
    parse(formula)


@pytest.fixture(scope="module")
def data():
    made, _ = simulate_counts(8, 40, 5, mean=4, within=0.4, seed=3)
    number = pd.factorize(made.obs["sample"])[0]
    made.obs["arm"] = np.where(number % 2, "b", "a")
    made.obs["age"] = number * 1.5
    made.obs["mito"] = np.random.default_rng(1).normal(size=made.n_obs)
    made.obs["phase"] = np.array(["G1", "S"])[np.arange(made.n_obs) % 2]
    return made


OVER_SAMPLES = {
    "Pseudobulk": lambda d, f: hc.Pseudobulk(d, "sample", formula=f, depth="depth").fit(),
    "check_design": lambda d, f: hc.check_design(d, "sample", formula=f, depth="depth"),
    "differential": lambda d, f: hc.differential(
        d, "sample", f.removeprefix("~ "), depth="depth", target="gene1", uncertainty="HC2"
    ),
    "aggregate": lambda d, f: hc.aggregate(d, "sample", depth="depth").obs,
}
OVER_CELLS = {
    "within": lambda d, f: hc.CSCore(d, "sample", covariates=f, depth="depth").fit(
        target="gene1", uncertainty="none"
    ),
    "pooled": lambda d, f: hc.CSCore(d, None, covariates=f, depth="depth").fit(
        "pooled", target="gene1", uncertainty="none"
    ),
}
TYPES = {
    "string": lambda s: s.astype("string"),
    "string[pyarrow]": lambda s: s.astype("string[pyarrow]"),
    "convert_dtypes": lambda s: s.convert_dtypes(),
    "pyarrow": lambda s: s.convert_dtypes(dtype_backend="pyarrow"),
    "category of string": lambda s: s.astype("string").astype("category"),
    "category": lambda s: s.astype("category"),
}


def numbers(found):
    if isinstance(found, hc.CorrelationResult):
        return found.dataset["correlation"].values
    return np.asarray(pd.DataFrame(getattr(found, "samples", found))["n_cells"], float)


@pytest.mark.sampled(4)
@pytest.mark.parametrize("kind", TYPES)
@pytest.mark.parametrize("door", [*OVER_SAMPLES, *OVER_CELLS])
def test_covariates_of_every_type_of_pandas(data, door, kind):
    if "pyarrow" in kind:
        pytest.importorskip("pyarrow")
    call = (OVER_SAMPLES | OVER_CELLS)[door]
    names = ("arm", "age") if door in OVER_SAMPLES else ("phase", "mito")
    for name in names:
        if kind.startswith(("string", "category")) and name in ("age", "mito"):
            continue
        changed = data.copy()
        changed.obs[name] = TYPES[kind](data.obs[name])
        np.testing.assert_allclose(
            numbers(call(changed, f"~ {name}")), numbers(call(data, f"~ {name}")), rtol=1e-6
        )


@pytest.mark.parametrize("value", [np.inf, -np.inf])
@pytest.mark.parametrize("dtype", ["float64", "float32", "Float64"])
@pytest.mark.parametrize("door", ["Pseudobulk", "differential", *OVER_CELLS])
def test_infinite_covariates_are_named(data, door, dtype, value):
    changed = data.copy()
    name = "age" if door in OVER_SAMPLES else "mito"
    which = (
        data.obs["sample"] == data.obs["sample"].iloc[0]
        if name == "age"
        else data.obs_names == data.obs_names[3]
    )
    changed.obs[name] = data.obs[name].mask(which, value).astype(dtype)
    with pytest.raises(hc.InputError, match=rf"column '{name}' is infinite in '"):
        (OVER_SAMPLES | OVER_CELLS)[door](changed, f"~ {name}")


def test_infinite_columns_of_check_design_are_problems(data):
    changed = data.copy()
    changed.obs["age"] = data.obs["age"].replace(1.5, np.inf)
    found = hc.check_design(changed, "sample", formula="~ age", depth="depth")
    assert any("is infinite" in p for p in found.problems)


def test_values_that_a_formula_makes_infinite():
    table = pd.DataFrame({"x": [0.0, 1, 2, 3]}, index=list("abcd"))
    with pytest.raises(hc.InputError, match=r"'np.log\(x\)' of formula .* is not finite.*'a'"):
        make_design("~ np.log(x)", table)
    with pytest.raises(hc.InputError, match="not finite"):
        make_design("~ np.exp(1000 * x)", table)


NOTHING = ["", "  ", "~", "\t\n", "1 +", "~ 1 +", "+", "~~", "arm ~ arm", "~ ``"]
DOORS = {
    "Pseudobulk": lambda d, f, **o: hc.Pseudobulk(d, "sample", formula=f, **o),
    "Pseudobulk, cell types": lambda d, f, **o: hc.Pseudobulk(d, "sample", "type", formula=f, **o),
    "differential_expression": lambda d, f, **o: hc.differential_expression(
        d, "sample", f, ("arm", "b", "a"), **o
    ),
    "differential": lambda d, f, **o: hc.differential(d, "sample", "arm", formula=f, **o),
    "CSCore": lambda d, f, **o: hc.CSCore(d, "sample", covariates=f, **o).fit(),
    "by_cell_type": lambda d, f, **o: hc.by_cell_type(d, "type", "sample", covariates=f, **o),
    "BayesianCorrelation": lambda d, f, **o: hc.BayesianCorrelation(d, "sample", formula=f, **o),
}


@pytest.fixture(scope="module")
def grouped(data):
    made = data.copy()
    made.obs["donor"] = [f"d{k // 2}" for k in pd.factorize(made.obs["sample"])[0]]
    made.obs["type"] = np.array(["A", "B"])[np.arange(made.n_obs) % 2]
    return made


@pytest.mark.parametrize("block", [None, "donor"])
@pytest.mark.parametrize("formula", NOTHING)
@pytest.mark.parametrize("door", DOORS)
def test_formulas_of_nothing_are_refused_before_anything_is_added(grouped, door, formula, block):
    if door == "differential_expression":
        pytest.importorskip("pydeseq2")
    own = r"names no column|next to|no left-hand side|not '"
    with pytest.raises(hc.InputError, match=own) as caught:
        DOORS[door](grouped, formula, depth="depth", block=block)
    added = ("C(", "Operator", "insuf")
    assert not any(word in str(caught.value) for word in added)


@pytest.mark.parametrize("block", [None, "donor"])
@pytest.mark.parametrize("formula", NOTHING)
def test_check_design_lists_formulas_of_nothing(grouped, formula, block):
    found = hc.check_design(grouped, "sample", formula=formula, block=block, depth="depth")
    assert len(found.problems) == 1


@pytest.mark.parametrize("option", ["formula", "covariates"])
@pytest.mark.parametrize("formula", NOTHING)
def test_analyze_refuses_formulas_of_nothing(grouped, tmp_path, formula, option):
    chosen = {option: formula, "depth": "depth", "sample": "sample", "target": "gene0"}
    with pytest.raises(hc.InputError, match=r"formula|covariates"):
        hc.analyze(grouped, tmp_path / "a", **chosen)
    assert not (tmp_path / "a").exists()


def test_cell_types_are_added_to_formulas_with_longer_names(grouped):
    changed = grouped.copy()
    changed.obs["subtype"] = changed.obs["arm"]
    model = hc.Pseudobulk(changed, "sample", "type", formula="~ subtype", depth="depth")
    assert any("type" in n and "subtype" not in n for n in model.design.names)


def test_differential_expression_has_no_random_intercepts(grouped):
    pytest.importorskip("pydeseq2")
    with pytest.raises(hc.InputError, match="block='donor' instead"):
        hc.differential_expression(
            grouped, "sample", "~ arm + (1 | donor)", ("arm", "b", "a"), depth="depth"
        )


@pytest.mark.parametrize("door", [*OVER_SAMPLES, *OVER_CELLS])
def test_numbers_as_objects(data, door):
    """A boolean among numbers counts as one, and numbers of the type object are labels."""
    call = (OVER_SAMPLES | OVER_CELLS)[door]
    if door == "aggregate":
        pytest.skip("has no covariates")
    name = "age" if door in OVER_SAMPLES else "mito"
    for boolean, match in ((True, "boolean among numbers"), (False, "astype.float.")):
        changed = data.copy()
        values = data.obs[name].astype(object).copy()
        if boolean:
            values[data.obs["sample"] == data.obs["sample"].iloc[0]] = True
        changed.obs[name] = values
        if door == "check_design":
            assert match.strip(".") in str(call(changed, f"~ {name}").problems).replace("(", ".")
            continue
        if door == "differential" and not boolean:
            continue  # groups of one sample
        with pytest.raises(hc.InputError, match=match):
            call(changed, f"~ {name}")
