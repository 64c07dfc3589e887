import pytest

from hiercorr.simulate import simulate_counts


@pytest.fixture(scope="session")
def path(tmp_path_factory):
    adata, _ = simulate_counts(4, 60, 8, mean=2, within=0.5, seed=1)
    adata.obs["kind"] = "a"
    where = tmp_path_factory.mktemp("data") / "a.h5ad"
    adata.write_h5ad(where)
    return where
