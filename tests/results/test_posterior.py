"""Posterior draws in a saved result: levels and ArviZ groups."""

import pytest
import xarray as xr

import hiercorr as hc

pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::hiercorr.DataWarning")


@pytest.mark.parametrize("end", ["zarr", "nc"])
def test_saved_with_its_posterior(fitted, tmp_path, end):
    _, r, _, _ = fitted
    back = hc.load(r.save(tmp_path / f"r.{end}"))
    xr.testing.assert_equal(back.dataset, r.dataset)
    assert back.at("between").dataset.attrs["title"] == "Bayesian correlation, between samples"
    posterior = back.idata["posterior"]
    assert posterior["within"].dims == ("chain", "draw", "pair")
    assert list(posterior["pair"].values) == ["gene0 - gene1", "gene0 - gene2", "gene1 - gene2"]
    assert posterior["within_sample"].sizes["sample"] == 6
    assert list(posterior["beta"]["coefficient"].values) == ["Intercept"]
    assert "diverging" in back.idata["sample_stats"]
    with pytest.raises(hc.InputError, match="no posterior draws"):
        _ = (
            hc.CSCore(hc.datasets.glioblastoma(), "patient_id", genes=3, depth="total_counts")
            .fit()
            .idata
        )
