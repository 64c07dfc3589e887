"""Methods paragraphs of the models within samples."""

import numpy as np
import pytest

import hiercorr as hc
from hiercorr.reporting.methods_text import methods_text
from tests.support import fit


@pytest.mark.parametrize(
    ("options", "present", "absent"),
    [
        ({}, ["within samples", "first-order jackknife", "Benjamini-Hochberg"], ["pooled across"]),
        ({"uncertainty": "cluster"}, ["cluster-robust"], ["jackknife"]),
        (
            {"uncertainty": "bootstrap", "n_bootstrap": 150, "seed": 7},
            ["linearised bootstrap"],
            ["jackknife"],
        ),
        (
            {"estimator": "pooled"},
            ["pooled across samples", "cell-level test"],
            ["centred within each sample"],
        ),
        (
            {"uncertainty": "none"},
            ["No uncertainty over samples"],
            ["p-values were adjusted", "Benjamini"],
        ),
        ({"per_sample": True}, ["Paule-Mandel", "prediction interval"], []),
        ({"target": "gene2", "confidence": 0.9}, ["between gene2 and 11 other genes", "90%"], []),
    ],
)
def test_what_was_run_and_nothing_else(small, options, present, absent):
    text = methods_text(fit(small, **options))
    assert all(words in text for words in present)
    assert not any(words in text for words in absent)


def test_signatures_and_covariates_of_cells(small, quiet):
    adata = small.copy()
    adata.obs["phase"] = np.random.default_rng(0).random(adata.n_obs)
    model = hc.CSCore(adata, "sample", depth="depth", covariates="~ phase")
    assert "Covariates of cells (phase) were regressed out" in methods_text(model.fit())
    plain = hc.CSCore(adata, "sample", depth="depth")
    text = methods_text(plain.signature(["gene0", "gene1"], name="score"))
    assert "signature score" in text
    assert "equal weights" in text


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({}, "type HC2"),
        ({"method": "pooled"}, "Welch-Satterthwaite"),
        ({"permutations": 500}, "all 20 possible permutations"),
    ],
)
def test_differences(options, words, quiet):
    from hiercorr.simulate import simulate_counts

    adata, _ = simulate_counts(6, 50, 4, mean=3.0, within=0.4, seed=1)
    first = adata.obs["sample"].isin(["s1", "s2", "s3"])
    adata.obs["arm"] = np.where(first, "a", "b")
    text = methods_text(hc.differential(adata, "sample", "arm", depth="depth", **options))
    assert words in text
    assert "between levels of arm" in text
