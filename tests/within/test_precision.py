"""Single precision against plain numpy, over means of 0.01 to 2,000 and depths of any spread."""

import anndata as ad
import numpy as np
import pandas as pd
import pytest
from scipy import sparse

import hiercorr as hc
from validation import plain

pytestmark = pytest.mark.filterwarnings("ignore::hiercorr.EstimationWarning")


def world(depth_sd):
    """Simulate 4 x 300 cells of 24 genes; log depths have this standard deviation."""
    rng = np.random.default_rng(1)
    n, p = 1200, 24
    depth = np.exp(rng.normal(0, depth_sd, n))
    shared = rng.normal(size=(n, 1)) * np.sqrt(0.3)
    state = shared + rng.normal(size=(n, p)) * np.sqrt(0.7)
    mean = np.geomspace(0.01, 2000, p) * depth[:, None] / depth.mean()
    x = rng.poisson(mean * np.exp(0.5 * state - 0.125))
    obs = pd.DataFrame(
        {
            "sample": np.repeat(list("abcd"), n // 4),
            "depth": 1e4 * depth / depth.mean(),
            "phase": shared[:, 0] + rng.normal(size=n),
        },
        index=[f"c{i}" for i in range(n)],
    )
    var = pd.DataFrame(index=[f"g{j}" for j in range(p)])
    data = ad.AnnData(sparse.csr_matrix(x), obs, var)
    return data[:, x.sum(0) > 0].copy()


@pytest.fixture(scope="module", params=[0.3, 1.0, 1.5, 2.0])
def data(request):
    return world(request.param)


def of_plain(data, theta):
    x, code = data.X.toarray(), data.obs["sample"].to_numpy()
    samples = [(x[code == c], data.obs["depth"].to_numpy()[code == c]) for c in "abcd"]
    sums = plain.within(samples, theta)
    return plain.correlation(*(sums[k] for k in ("num", "den", "own", "own_den")))


FITS = {
    "within": (None, {"weights": "information"}),
    "pooled": (None, {"estimator": "pooled"}),
    "covariate": ("~ phase", {}),
    "target": (None, {"target": "g20"}),
}


@pytest.mark.parametrize("kind", FITS)
def test_single_precision_has_six_digits(data, kind):
    covariates, options = FITS[kind]
    model = hc.CSCore(data, "sample", depth="depth", covariates=covariates)
    single, double = (
        model.fit(**{"uncertainty": "jackknife", **options}, precision=p).dataset
        for p in ("single", "double")
    )
    r = double["correlation_unclipped"].to_numpy()
    found = single["correlation_unclipped"].to_numpy()
    np.testing.assert_allclose(found, r, rtol=2e-6, atol=2e-6)
    p = double["p_value"].to_numpy()
    np.testing.assert_allclose(single["p_value"].to_numpy(), p, atol=5e-6)
    if kind == "within":
        upper = np.triu_indices(len(r), 1)
        wanted = of_plain(data, double.attrs["theta"])[upper]
        np.testing.assert_allclose(r[upper], wanted, rtol=1e-7, atol=1e-7)
        np.testing.assert_allclose(found[upper], wanted, rtol=2e-6, atol=2e-6)
