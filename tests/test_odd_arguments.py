"""Values of any type for every argument of every public function: an InputError or a result."""

import inspect

import numpy as np
import pandas as pd
import pytest

import hiercorr as hc
from hiercorr import datasets, enrichment, modules, planning, plotting
from hiercorr.simulate import simulate_counts

pytestmark = [
    pytest.mark.filterwarnings("ignore"),
    pytest.mark.usefixtures("no_figures"),
]
MODULES = {"a": ["gene0", "gene1"], "b": ["gene2", "gene3"]}
FEW = [np.nan, -1, "", [], pd.DataFrame({"a": [1]}), np.array("x")]
MANY = [
    *(True, 10**30, 0, {}, object(), b"x", 1.5, np.inf, "nonsense", {"a"}, np.ones((2, 2)), None),
    *([None], (1, 2, 3), -np.inf, np.float32(0.5), [[1]], pd.NaT),
]


def halves(result):
    samples = list(result.dataset["sample"].values)
    return {s: "ab"[k % 2] for k, s in enumerate(samples)}


@pytest.fixture
def no_figures():
    import matplotlib.pyplot as plt

    yield
    plt.close("all")


@pytest.fixture(scope="module")
def made():
    """Data, models and results."""
    data, _ = simulate_counts(6, 25, 6, mean=3, within=0.4, seed=1)
    number = pd.factorize(data.obs["sample"])[0]
    data.obs["arm"] = np.where(number % 2, "b", "a")
    data.obs["type"] = np.where(np.arange(data.n_obs) % 2, "A", "B")
    given = {"data": data, "sample": "sample", "depth": "depth"}
    model, sums = hc.CSCore(**given), hc.Pseudobulk(**given, normalization="cpm")
    one = model.fit(target="gene0", per_sample=True)
    between = sums.fit(target="gene0")
    return {
        "given": given,
        "model": model,
        "sums": sums,
        "every": model.fit(per_sample=True),
        "one": one,
        "between": between,
        "types": hc.by_cell_type(data, "type", "sample", depth="depth", min_cells=3),
        "traps": hc.traps(target="gene0", **given),
        "evidence": hc.evidence("gene0", within=one, between=between),
        "design": hc.power(samples=8, cells=100, mean=1, rho=0.3),
    }


def of_results(made, folder):
    """Return methods and plots of results, and functions of them, with valid arguments."""
    every, one, design = made["every"], made["one"], made["design"]
    calls = {
        "evidence": (
            hc.evidence,
            {"target": "gene0", "within": one, "between": made["between"]},
        ),
        "compare": (hc.compare, {"results": {"a": one, "b": every}, "pairs": [("gene0", "gene1")]}),
        "report": (hc.report, {"path": folder / "r.html"}),
        "load": (hc.load, {}),
        "read_gmt": (datasets.read_gmt, {}),
        "modules": (modules.find_modules, {"result": every}),
        "preservation": (modules.preservation, {"modules": MODULES, "result": every}),
        "connectivity": (
            modules.differential_connectivity,
            {"modules": MODULES, "result": every, "groups": halves(every)},
        ),
        "connectivities": (modules.connectivity, {"modules": MODULES, "result": every}),
        "centrality": (modules.centrality, {"result": every}),
        "compare_donors": (
            modules.compare_donors,
            {
                "values": modules.centrality(every),
                "samples": pd.DataFrame({"arm": halves(every)}),
                "condition": "arm",
            },
        ),
        "left_out": (
            modules.left_out_preservation,
            {"fit": lambda some: every, "samples": list(halves(every)), "permutations": 100},
        ),
        "enrich": (
            enrichment.enrich,
            {"result": one, "sets": {"s": ["gene1", "gene2", "gene3"]}},
        ),
        "power": (hc.power, {"samples": 8, "cells": 100, "mean": 1, "rho": 0.3}),
        "best": (planning.best_design, {"design": design, "donor_cost": 10, "cell_cost": 1}),
        "curve": (planning.power_curve, {"design": design, "over": "samples", "values": [4, 8]}),
        "simulate": (simulate_counts, {"n_samples": 3, "n_cells": 10, "n_genes": 4}),
    }
    named = {"gene_a": "gene0", "gene_b": "gene1"}
    for kind in ("every", "one", "between", "types", "traps", "evidence"):
        found = made[kind]
        for name in (n for n in dir(type(found)) if not n.startswith("_")):
            if callable(inspect.getattr_static(type(found), name)):
                calls[f"{kind}.{name}"] = (getattr(found, name), {})
        for name in dir(getattr(found, "plot", None)) if kind in ("every", "one") else ():
            if not name.startswith("_"):
                needed = {"forest": {"gene_a": "gene1"}, "sample_scatter": named}.get(name, {})
                calls[f"{kind}.plot.{name}"] = (getattr(found.plot, name), needed)
    first = {"pair_scatter": {**made["given"], **named}, "traps": {"found": made["traps"]}}
    for name in plotting.__all__:
        plot = getattr(plotting, name)
        if callable(plot) and not isinstance(plot, type):
            calls[f"plotting.{name}"] = (plot, first.get(name, {}))
    return calls


def of_models(made, folder):
    """Return functions that estimate, with valid arguments."""
    given, model, sums = made["given"], made["model"], made["sums"]
    small = {**given, "min_cells": 3}
    named = {"gene_a": "gene0", "gene_b": "gene1"}
    return {
        "CSCore": (hc.CSCore, given),
        "fit": (model.fit, {"target": "gene0"}),
        "bootstrap": (model.fit, {"uncertainty": "bootstrap", "n_bootstrap": 100}),
        "signature": (model.signature, {"genes": ["gene0", "gene1"]}),
        "score": (model.score, {"score": "depth"}),
        "membership": (model.module_membership, {"sets": MODULES}),
        "module pairs": (model.module_correlation, {"sets": MODULES}),
        "module weights": (model.module_weights, {"sets": MODULES}),
        "module score": (model.score, {"score": "depth", "sets": MODULES}),
        "module traits": (sums.module_traits, {"sets": MODULES, "traits": "arm"}),
        "module expression": (sums.module_expression, {"sets": MODULES}),
        "project": (
            modules.project,
            {"weights": {"a": {"gene0": 1.0, "gene1": 2.0}}, "model": model},
        ),
        "module differences": (
            modules.differential_correlation,
            {**given, "condition": "arm", "sets": MODULES},
        ),
        "Pseudobulk": (hc.Pseudobulk, given),
        "sums": (sums.fit, {"target": "gene0"}),
        "across": (
            hc.AcrossCellTypes,
            {**small, "cell_type": "type", "types": ("A", "B")},
        ),
        "Bayesian": (hc.BayesianCorrelation, {**given, "genes": ["gene0", "gene1"]}),
        "differential": (hc.differential, {**given, "condition": "arm", "target": "gene0"}),
        "types": (hc.by_cell_type, {**small, "cell_type": "type"}),
        "traps": (hc.traps, {**given, "target": "gene0"}),
        "aggregate": (hc.aggregate, given),
        "decompose": (hc.decompose, {**given, "target": "gene0"}),
        "direct_partners": (hc.direct_partners, {"model": model}),
        "check": (hc.check_design, given),
        "metacells": (hc.metacells, {**given, "size": 5}),
        "cells": (hc.CellCorrelation, given),
        "pilot": (planning.pilot, {**given, **named}),
    }


def raw_errors(calls, values):
    found = []
    for name, (function, given) in calls.items():
        for argument, parameter in inspect.signature(function).parameters.items():
            if parameter.kind in (parameter.VAR_KEYWORD, parameter.VAR_POSITIONAL):
                continue
            for value in values:
                try:
                    function(**{**given, argument: value})
                except (hc.InputError, OSError) as error:
                    if "\n" in str(error):
                        found.append((name, argument, repr(value), "several lines"))
                except Exception as error:
                    if "required" not in str(error):  # another argument was left out
                        found.append((name, argument, repr(value), repr(error)))
    return found


@pytest.mark.usefixtures("undrawn")
def test_results_and_plots(made, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert raw_errors(of_results(made, tmp_path), FEW) == []


def test_models(made, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert raw_errors(of_models(made, tmp_path), FEW[:2] + FEW[4:]) == []


@pytest.mark.slow
@pytest.mark.parametrize("calls", [of_results, of_models])
@pytest.mark.usefixtures("undrawn")
def test_many_values(made, tmp_path, monkeypatch, calls):
    monkeypatch.chdir(tmp_path)
    assert raw_errors(calls(made, tmp_path), MANY) == []
