"""All pairs of a panel: the truth is recovered at both levels, options are checked."""

import numpy as np
import pytest

import hiercorr as hc
from hiercorr.simulate import simulate_counts
from tests.bayes.support import model_of

pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::hiercorr.DataWarning")


def test_recovers_both_levels(fitted):
    _, r, truth, _ = fitted
    ds = r.dataset
    natural = truth["within"].values[0, 1]
    assert ds["natural_lower"].values[0, 1] < natural < ds["natural_upper"].values[0, 1]
    b = r.at("between").dataset
    assert b["ci_lower"].values[0, 1] < 0.3 < b["ci_upper"].values[0, 1]
    assert np.nanmax(ds["r_hat"]) < 1.05  # the worst of all parameters
    assert np.nanmin(ds["ess_bulk"]) > 100


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"draws": 5}, "draws must be a whole number of at least 100"),
        ({"chains": 1}, "chains must be a whole number of at least 2"),
        ({"sampler": "gibbs"}, "sampler must be one of"),
        ({"method": "exact"}, "method must be one of"),
        ({"target_accept": 1.2}, "target_accept must lie between 0 and 1"),
    ],
)
def test_refused_options_of_fit(options, text):
    adata, _ = simulate_counts(4, 30, 2, mean=2.0, seed=1)
    with pytest.raises(hc.InputError, match=text):
        model_of(adata).fit(**options)
