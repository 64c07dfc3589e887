"""Options of a fit are checked."""

import pytest

import hiercorr as hc


def test_options_are_checked(small):
    model = hc.CSCore(small, sample="sample", depth="depth")
    for options, text in (
        ({"estimator": "median"}, "estimator must be"),
        ({"uncertainty": "magic"}, "uncertainty must be"),
        ({"precision": "half"}, "precision must be"),
        ({"confidence": 95}, "between 0 and 1"),
        ({"target": "gene"}, "unknown target gene 'gene'; did you mean 'gene0'"),
        ({"estimator": "pooled", "per_sample": True}, "per_sample=True requires"),
        ({"uncertainty": "bootstrap", "n_bootstrap": 10}, "at least 100"),
    ):
        with pytest.raises(hc.InputError, match=text):
            model.fit(**options)
    covariate = hc.CSCore(small, sample="sample", depth="depth", covariates="~ depth")
    with pytest.raises(hc.InputError, match="not available for 'pooled' with covariates"):
        covariate.fit(estimator="pooled", uncertainty="jackknife")
    with pytest.raises(hc.InputError, match="covariate_level"):
        covariate.fit(estimator="pooled", covariate_level="gene")
    with pytest.raises(hc.InputError, match="adjust must be a sequence of any of"):
        covariate.fit(estimator="pooled", adjust=["median"])
