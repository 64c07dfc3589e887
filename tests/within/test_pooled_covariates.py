"""The pooled estimator with cell covariates, against R and plain numpy."""

import numpy as np
import pytest

import hiercorr as hc
from hiercorr.simulate import simulate_counts
from tests.support import fit, table
from validation import plain


def test_covariates_equal_cscore(gbm):
    model = hc.CSCore(
        gbm,
        sample="patient_id",
        depth="total_counts",
        genes=list(gbm.var_names[:40]),
        covariates="~ condition + age + gender",
    )
    with pytest.warns(hc.EstimationWarning, match="not positive in some cells"):
        result = model.fit(estimator="pooled", precision="double")
    off = ~np.eye(40, dtype=bool)
    # Cells with a negative fitted mean make R's own weights ill-conditioned: two plain numpy runs
    # differ by 1e-7 too.
    assert (
        np.abs(result.matrix().values - table("cscore_gbm_covariates_est.csv.gz").values)[off].max()
        < 1e-6
    )
    assert (
        np.abs(
            result.matrix("cell_statistic").values
            - table("cscore_gbm_covariates_test_stat.csv.gz").values
        )[off].max()
        < 1e-4
    )
    mean = table("cscore_gbm_covariates_mu_beta.csv.gz").values
    np.testing.assert_allclose(result.dataset["mean_coefficient"].values, mean, rtol=1e-5)
    variance = table("cscore_gbm_covariates_sigma2_beta.csv.gz").values
    np.testing.assert_allclose(result.dataset["variance_coefficient"].values, variance, rtol=1e-5)
    names = ["Intercept", "condition[T.panobinostat]", "age", "gender[T.M]"]
    assert list(result.dataset["coefficient"].values) == names


@pytest.mark.parametrize("level", ["cell", "count"])
@pytest.mark.parametrize(
    "adjust", [("mean", "variance", "covariance"), ("mean",), ("mean", "variance")]
)
def test_covariates_equal_plain_numpy(level, adjust):
    # Mild effects and a narrow depth: fitted means stay positive, so the weights are
    # well-conditioned.
    effects = {"arm": (["a", "b"] * 3, 0.2), "age": (np.array([50.0, 61, 47, 70, 66, 58]), 0.01)}
    adata, _ = simulate_counts(
        6, 150, 5, mean=6, within=0.4, depth_sd=0.15, depth_shift=0, covariates=effects, seed=8
    )
    model = {"covariates": "~ arm + age"}
    ds = fit(
        adata,
        model=model,
        estimator="pooled",
        precision="double",
        covariate_level=level,
        adjust=adjust,
        standardize=True,
    ).dataset
    c = np.column_stack([adata.obs["arm"] == "b", adata.obs["age"]]).astype(float)
    c = np.column_stack([np.ones(adata.n_obs), (c - c.mean(0)) / c.std(0, ddof=1)])
    s = adata.obs["depth"].to_numpy()
    estimate, statistic, mean, variance = plain.cscore_covariates(
        adata.X.toarray(), s, c, level, adjust
    )
    off = ~np.eye(5, dtype=bool)
    np.testing.assert_allclose(ds["correlation"].values[off], estimate[off], rtol=1e-6, atol=1e-8)
    np.testing.assert_allclose(
        ds["cell_statistic"].values[off], statistic[off], rtol=1e-6, atol=1e-7
    )
    np.testing.assert_allclose(ds["mean_coefficient"].values[: len(mean)], mean, rtol=1e-6)
    np.testing.assert_allclose(
        ds["variance_coefficient"].values[: len(variance)], variance, rtol=1e-6
    )


def test_covariate_options_change_the_regressions(gbm, quiet):
    genes = list(gbm.var_names[:6])
    model = hc.CSCore(
        gbm, sample="patient_id", depth="total_counts", genes=genes, covariates="~ age + gender"
    )
    base = model.fit(estimator="pooled", precision="double")
    # Centring and scaling covariates changes the meaning of the intercept, not the fitted means.
    raw = model.fit(estimator="pooled", precision="double", standardize=False)
    a, b = base.dataset["mean_coefficient"], raw.dataset["mean_coefficient"]
    age, male = gbm.obs["age"], (gbm.obs["gender"] == "M").astype(float)
    fitted_raw = b[0] + b[1] * age.mean() + b[2] * male.mean()
    np.testing.assert_allclose(
        a[0], fitted_raw, rtol=0.1
    )  # weights use the intercept, so not exactly
    assert not np.allclose(a[0], b[0], rtol=0.05)
    count = model.fit(estimator="pooled", precision="double", covariate_level="count")
    assert not np.allclose(count.matrix(), base.matrix(), atol=1e-3)
    mean_only = model.fit(estimator="pooled", precision="double", adjust=["mean"])
    assert not np.allclose(mean_only.matrix(), base.matrix(), atol=1e-3)
    assert mean_only.dataset["variance_coefficient"].isnull().values[1:].all()
    target = model.fit(estimator="pooled", target=genes[2], precision="double")
    np.testing.assert_allclose(target.matrix().iloc[0], base.matrix().loc[genes[2]], rtol=1e-9)
    assert "CSCore" in str(base.summary())
