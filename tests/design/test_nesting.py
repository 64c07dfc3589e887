"""Nesting and crossing of columns: the structure of a design, from its labels alone."""

import itertools

import numpy as np
import pandas as pd
import pytest

import hiercorr as hc
from hiercorr.design.nesting import (
    design_structure,
    group_codes,
    like_condition,
    like_donor,
    like_sample,
    tokens,
)

CELLS = 20


def design(*columns, **factors):
    """Cells of all combinations of factors; columns are named functions of a combination."""
    rows = [
        dict(zip(factors, values, strict=True)) for values in itertools.product(*factors.values())
    ]
    table = pd.DataFrame(rows)
    for name, value in columns:
        table[name] = [value(row) for row in rows]
    obs = table.loc[np.repeat(table.index, CELLS)].reset_index(drop=True)
    rng = np.random.default_rng(1)
    obs["percent_mito"] = rng.random(len(obs))
    obs["n_genes"] = rng.integers(200, 5000, len(obs))
    obs["cluster_score"] = rng.integers(0, 4, len(obs))
    obs["barcode"] = [f"c{k}" for k in range(len(obs))]
    obs["age"] = 40 + pd.factorize(obs[next(iter(factors))])[0]
    return obs.sample(frac=1, random_state=0)


DONORS = [f"d{k}" for k in range(6)]


def joined(*names):
    return lambda row: "_".join(str(row[n]) for n in names)


def test_samples_that_are_donors():
    obs = design(("sex", lambda r: "fm"[int(r["donor"][1]) % 2]), donor=DONORS)
    s = design_structure(obs, "donor")
    assert (s.sample, s.block, s.n_samples, s.n_donors) == ("donor", None, 6, 6)
    assert s.random == "(1 | donor)"
    assert s.options == "sample='donor'"
    assert s.between_donors == ("sex",)
    assert "one per donor as far as the columns tell" in str(s)
    assert set(s.levels) == {"donor", "sex"}  # measurements and barcodes do not group cells


def test_two_samples_per_donor():
    obs = design(("sample", joined("donor", "tube")), donor=DONORS, tube=[1, 2])
    obs["slide"] = obs["sample"] + "!"
    s = design_structure(obs, "sample")
    assert (s.block, s.n_samples, s.n_donors) == ("donor", 12, 6)
    assert s.random == "(1 | donor/sample)"
    assert s.same == ("slide",)
    assert str(s).startswith("(1 | donor/sample): 12 samples nested in 6 donors, 2 each")


@pytest.mark.parametrize("donor", ["donor", "Patient ID", "mouse", "pid"])
def test_treatment_within_donors(donor):
    """The last name tells nothing: the donors are known as they are crossed with the treatment."""
    obs = design(
        ("sample", joined(donor, "treatment")),
        ("sex", lambda r: "fm"[int(r[donor][1]) % 2]),
        **{donor: DONORS, "treatment": ["no", "yes"]},
    )
    s = design_structure(obs, "sample")
    assert (s.block, s.n_donors) == (donor, 6)
    assert s.within_donors == ("treatment",)
    assert s.between_donors == ("sex",)
    assert s.is_balanced("treatment", donor)
    assert f"treatment crossed with {donor}: 2 levels, balanced" in s.lines()
    quoted = donor if donor.isidentifier() else f"`{donor}`"
    assert s.random == f"(1 | {quoted}/sample)"
    fewer = obs[obs["sample"] != "d0_yes"]
    s = design_structure(fewer, "sample")
    if donor != "pid":  # which needs all combinations
        assert f"treatment crossed with {donor}: 2 levels, not balanced" in s.lines()
        assert "11 samples nested in 6 donors, unequal numbers" in str(s)


def test_regions_and_biopsies():
    obs = design(
        ("biopsy", joined("donor", "region")),
        ("sample", joined("donor", "region", "slice")),
        donor=DONORS,
        region=["core", "edge", "far"],
        slice=[1, 2],
    )
    s = design_structure(obs, "sample")
    assert s.random == "(1 | donor/biopsy/sample)"
    assert (s.block, s.n_donors, s.n_samples) == ("donor", 6, 36)
    assert s.within_donors == ("region",)
    r = s.relations.set_index(["column", "other"])
    assert r.loc[("sample", "biopsy"), "relation"] == "nested in"
    assert r.loc[("biopsy", "donor"), "relation"] == "nested in"
    assert r.loc[("donor", "region"), "relation"] == "crossed with"
    assert r["balanced"].all()


def test_constant_columns_and_columns_of_cells():
    obs = design(("sample", joined("donor", "tube")), donor=DONORS, tube=[1, 2])
    obs["tissue"] = "brain"
    obs["cell_type"] = np.resize(["a", "b", "c"], len(obs))
    obs["stim"] = np.resize([0, 0, 1], len(obs))
    s = design_structure(obs, "sample")
    assert s.constant == ("tissue",)
    assert s.within_samples == ("cell_type", "stim")
    assert s.confounding == ("stim",)
    assert s.block == "donor"


def test_swapped_names():
    obs = design(("sample", joined("donor", "condition")), donor=DONORS, condition=["ctrl", "stim"])
    s = design_structure(obs, "donor")
    assert s.options == "sample='sample', block='donor'"
    assert (s.n_samples, s.n_donors) == (12, 6)
    reverse = obs.rename(columns={"donor": "sample", "sample": "donor"})
    s = design_structure(reverse, "donor")  # the labels of the columns are the wrong way round
    assert s.options == "sample='donor', block='sample'"
    assert design_structure(reverse, "sample").options == "sample='donor', block='sample'"
    # two libraries of each sample say nothing against the sample
    obs["library"] = obs["sample"] + np.resize(["x", "y"], len(obs))
    assert design_structure(obs, "sample").options == "sample='sample', block='donor'"


def test_properties_of_donors_and_missing_labels():
    obs = design(
        ("sample", joined("donor", "tube")),
        ("donor_sex", lambda r: "fm"[int(r["donor"][1]) % 2]),
        donor=DONORS,
        tube=[1, 2],
    )
    assert design_structure(obs, "sample").block == "donor"
    alone = obs.drop(columns="tube")
    alone["sample"] = alone["donor"]
    assert design_structure(alone.drop(columns="donor"), "sample").n_donors == 2
    assert design_structure(alone.drop(columns="sample"), "donor").block is None
    obs.loc[obs["donor"] == "d0", "donor"] = None
    assert design_structure(obs, "sample").n_donors == 6


def test_numbers_and_values_that_cannot_be_hashed():
    values = pd.Series(np.repeat([1, 2, 3], 20))
    assert group_codes(values.rename("donor")) is not None
    assert group_codes(values.rename("n_counts")) is None
    assert group_codes(values.rename("day") + 0.5) is None
    assert group_codes(values.rename("day").astype(float)) is not None
    assert group_codes(pd.Series([[1], [2]] * 30, name="donor")) is None
    assert group_codes(pd.Series(np.arange(60), name="day")) is None
    assert group_codes(pd.Series([True, False] * 30, name="doublet")) is not None


def test_words_of_names():
    assert tokens("TimePoint_2 brainRegion") == {"time", "point", "brain", "region"}
    assert like_condition("Treatment.group")
    assert not like_condition("pseudotime")
    assert not like_condition("cell_group")
    assert like_donor("MouseID")
    assert like_sample("orig.ident")
    assert not like_sample("resampled")


def test_bundled_data(gbm):
    kang = hc.datasets.kang_pbmc()
    s = design_structure(kang.obs, "sample_id")
    assert (s.random, s.n_donors) == ("(1 | donor/sample_id)", 2)
    assert s.within_samples == ("cell_type",)
    for sample in ("sample_id", "patient_id"):
        s = design_structure(gbm.obs, sample)
        assert s.options == "sample='sample_id', block='patient_id'"
        assert s.between_donors == ("gender", "location")
