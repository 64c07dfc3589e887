"""Results that were edited: attributes, shapes and values that cannot be."""

import json

import numpy as np
import pytest

import hiercorr as hc
from hiercorr.results.storage import write_dataset

pytestmark = pytest.mark.filterwarnings(
    "ignore::hiercorr.DataWarning", "ignore::hiercorr.EstimationWarning"
)


@pytest.fixture(scope="module")
def results():
    made, _ = hc.simulate.simulate_counts(8, 40, 15, mean=3.0, within=0.6, seed=1)
    number = np.repeat(np.arange(8), 40)
    made.obs["arm"] = np.where(number % 2, "b", "a")
    made.obs["type"] = np.where(np.arange(320) % 2, "A", "B")
    given = {"data": made, "sample": "sample", "depth": "depth"}
    model = hc.CSCore(**given)
    return {
        "one": model.fit(target="gene0", per_sample=True),
        "every": model.fit().shrink(),
        "between": hc.Pseudobulk(**given, formula="~ arm").fit(),
        "difference": hc.differential(**given, condition="arm"),
        "cells": hc.CellCorrelation(**given).fit(),
        "types": hc.by_cell_type(made, "type", "sample", depth="depth", min_cells=3),
    }


def changed(dataset, name, value):
    edited = dataset[name].copy(deep=True)
    edited.values[(-1,) * edited.ndim] = value
    return dataset.assign({name: edited})


def without(dataset, name):
    attrs = {k: v for k, v in dataset.attrs.items() if k != name}
    return dataset.assign_attrs({}).drop_attrs(deep=False).assign_attrs(attrs)


REQUIRED = ["model", "title", "level", "estimator", "formula", "uncertainty", "n_cells"]
EDITED = {
    **{f"no {k}": (lambda d, k=k: without(d, k), rf"no attribute '{k}'") for k in REQUIRED},
    "no family": (lambda d: without(d, "q_family"), "no attribute 'q_family'"),
    "no proportion": (lambda d: without(d, "null_share"), "no attribute 'null_share'"),
    "-3 samples": (lambda d: d.assign_attrs(n_samples=-3), "'n_samples' = -3, not a whole number"),
    "7 samples": (lambda d: d.assign_attrs(n_samples=7), "'n_samples' = 7, and 8 samples"),
    "half a cell": (lambda d: d.assign_attrs(n_cells=1.5), "'n_cells' = 1.5, not a whole number"),
    "text of cells": (lambda d: d.assign_attrs(n_cells="many"), "'n_cells' = 'many', not a whole"),
    "a level": (lambda d: d.assign_attrs(level="above"), "'level' = 'above', not one of within"),
    "a title": (lambda d: d.assign_attrs(title=5), "'title' = 5, not a text"),
    "no text": (lambda d: d.assign_attrs(title=""), "'title' = '', not a text"),
    "a confidence": (lambda d: d.assign_attrs(confidence=95), "'confidence' = 95, not a number"),
    "many confidences": (lambda d: d.assign_attrs(confidence=[0.9, 0.95]), "not a number from 0"),
    "not a number": (lambda d: d.assign_attrs(theta=np.nan), "'theta' = nan, not a number"),
    "a switch": (lambda d: d.assign_attrs(converged=2), "'converged' = 2, not 0 or 1"),
    "rho": (lambda d: changed(d, "correlation", 7), "'correlation' = 7, which must lie from -1"),
    "p": (lambda d: changed(d, "p_value", -1), "'p_value' = -1, which must lie from 0 to 1"),
    "q": (lambda d: changed(d, "q_value", 1.5), "'q_value' = 1.5, which must lie from 0 to 1"),
    "se": (lambda d: changed(d, "se", -0.1), "'se' = -0.1, which must lie from 0"),
    "lfsr": (lambda d: changed(d, "lfsr", np.inf), "'lfsr' = inf, which must lie from 0 to 1"),
    "cells": (lambda d: changed(d, "n_cells", -3), "'n_cells' = -3, which must lie from 0"),
    "flag": (lambda d: d.assign(flag=d["flag"].astype(np.int64) - 1), "bits that are no flag"),
    "limits": (
        lambda d: d.assign(ci_lower=d["ci_upper"], ci_upper=d["ci_lower"]),
        "'ci_lower' above 'ci_upper'",
    ),
    "text of genes": (lambda d: d.assign(mean=d["mean"].astype(str)), "'mean' of the type"),
    "dimensions": (lambda d: d.assign(mean=d["correlation"]), "'mean' with the dimensions"),
    "partners": (
        lambda d: d.assign_coords(partner=d["partner"].values[::-1]),
        "other names of 'partner' than of 'gene'",
    ),
    "numbers as names": (lambda d: d.assign_coords(sample=np.arange(8)), "not texts"),
}


@pytest.mark.sampled(12)
@pytest.mark.parametrize("how", EDITED)
@pytest.mark.parametrize("kind", ["nc", "nc with checksums", "zarr"])
def test_edited_results_are_refused(results, tmp_path, how, kind):
    edit, message = EDITED[how]
    edited = edit(results["every"].dataset)
    path = tmp_path / f"r.{kind.split()[0]}"
    if kind == "nc":
        edited.to_netcdf(path, engine="h5netcdf")
    else:
        write_dataset(edited, path, overwrite=False)
    with pytest.raises(hc.InputError, match=message) as caught:
        hc.load(path)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize("how", ["no model", "-3 samples", "cells", "text of genes"])
def test_what_is_not_left_on_disk_is_examined(results, tmp_path, how):
    """Attributes and types; values of pairs only where they are in memory."""
    edit, message = EDITED[how]
    path = write_dataset(edit(results["every"].dataset), tmp_path / "r.zarr", overwrite=False)
    if how == "cells":
        assert hc.load(path, lazy=True).dataset["n_cells"].values.min() == -3
        return
    with pytest.raises(hc.InputError, match=message):
        hc.load(path, lazy=True)


VALUES = [-3, [1.0, 2.0], ""]


@pytest.mark.sampled(5)
@pytest.mark.parametrize("kind", ["one", "every", "between", "difference", "cells"])
def test_every_attribute_missing_or_of_another_kind(results, kind):
    """An error on loading, or a result that shows."""
    from hiercorr.results.result import _as_result

    dataset, refused = results[kind].dataset, 0
    for name in dataset.attrs:
        of_other = [dataset.assign_attrs({name: value}) for value in VALUES]
        for edited in (without(dataset, name), *of_other):
            try:
                found = _as_result(edited)
            except hc.InputError:
                refused += 1
                continue
            repr(found)
            found.summary()
    assert refused > len(dataset.attrs)


@pytest.mark.slow
def test_edited_attributes_of_cell_types(results, tmp_path):
    dataset = results["types"]._stored()
    parts = json.loads(dataset.attrs["of_cell_types"])
    parts["A"]["attrs"]["n_samples"] = -3
    odd = [json.dumps(parts), "{", "[1]", json.dumps({"A": 1}), json.dumps({"A": {"attrs": 1}})]
    odd.append(json.dumps({"A": {"attrs": {}, "variables": ["nothing"]}}))
    for k, text in enumerate(odd):
        path = tmp_path / f"{k}.zarr"
        write_dataset(dataset.assign_attrs(of_cell_types=text), path, overwrite=False)
        with pytest.raises(hc.InputError, match=str(path)):
            hc.load(path)
