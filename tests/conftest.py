import fcntl
import os
import pickle
import warnings
from collections import Counter

# Idle threads of OpenBLAS sleep at once: those that wait for work with a core in hand take it from
# the other worker, most of the time of tests on small matrices. It is read when BLAS is loaded.
os.environ.setdefault("OPENBLAS_THREAD_TIMEOUT", "4")

import numpy as np
import pytest

import hiercorr as hc
from hiercorr.results import tiling
from hiercorr.runtime import user_warnings
from hiercorr.simulate import simulate_counts
from tests.support import OPTIONS, VEHICLE

LONGEST = {
    f"test_{name}.py": k
    for k, name in enumerate(("packaging", "joint", "simulation", "calibration", "kills", "run"))
}


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items):
    """Put all but every n-th case of a function with ``sampled(n)`` into the slow set.

    The files that take longest come first, so that no worker is left with one of them at the end;
    first of all the installations, which mostly wait.
    """
    seen = Counter()
    for item in items:
        mark = item.get_closest_marker("sampled")
        if mark is not None:
            function = item.nodeid.partition("[")[0]
            if seen[function] % mark.args[0]:
                item.add_marker(pytest.mark.slow)
            seen[function] += 1
    items.sort(key=lambda item: LONGEST.get(item.path.name, len(LONGEST)))


@pytest.fixture(autouse=True)
def nothing_said(monkeypatch):
    """Warnings are given once in a process; no test depends on those before it."""
    monkeypatch.setattr(user_warnings, "_SAID", set())


@pytest.fixture(scope="session")
def gbm():
    return hc.datasets.glioblastoma()


@pytest.fixture(scope="session")
def within(gbm):
    """Correlation within the untreated samples of glioblastoma, all genes."""
    return hc.CSCore(gbm, **VEHICLE).fit(per_sample=True)


@pytest.fixture(scope="session")
def between(gbm):
    """Correlation between the untreated samples of glioblastoma, all genes."""
    return hc.Pseudobulk(gbm, **VEHICLE).fit()


@pytest.fixture(scope="session")
def small():
    """5 unequal samples x 12 genes of which some are sparse."""
    mean = np.array([4, 4, 1, 1, 0.3, 0.3, 0.08, 0.08, 2, 2, 0.05, 6.0])
    adata, _ = simulate_counts(5, [60, 90, 120, 150, 40], 12, mean=mean, within=0.4, seed=7)
    return adata


@pytest.fixture(scope="session")
def forty_genes():
    adata, _ = simulate_counts(
        5, 120, 40, mean=np.geomspace(0.05, 4, 40), within=0.4, cell_imbalance=0.4, seed=5
    )
    rng = np.random.default_rng(0)
    return adata[rng.permutation(adata.n_obs)].copy()  # cells of a sample are not together in files


@pytest.fixture(scope="session")
def forty_genes_fit(forty_genes):
    return hc.CSCore(forty_genes, **OPTIONS).fit().dataset


@pytest.fixture
def small_tiles(monkeypatch):
    """Tiles of 13 genes, so that 40 genes are 10 tiles."""
    monkeypatch.setattr(tiling, "_TILE_GENES", 13)
    monkeypatch.setattr(tiling, "_PART_GENES", 13)
    monkeypatch.setattr(tiling, "WIDE", 13)
    monkeypatch.setattr(tiling, "_LEAST_GENES", 1)


@pytest.fixture(scope="session")
def fitted(tmp_path_factory):
    """A Bayesian model of 3 genes, its fit, the truth and the counts."""
    adata, truth = simulate_counts(6, 150, 3, mean=[0.8, 2.0, 3.0], within=0.5, between=0.3, seed=5)
    model = hc.BayesianCorrelation(adata, "sample", depth="depth")
    options = {"draws": 400, "tune": 300, "chains": 2, "seed": 1}
    result = _once(tmp_path_factory, "fitted.pkl", lambda: model.fit(**options))
    return model, result, truth, adata


def _once(tmp_path_factory, name, make):
    """Make an object in one worker; the others wait for it and read it."""
    folder = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        folder = folder.parent  # that of this run, above those of the workers
    path = folder / name
    with open(folder / f"{name}.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # also released if this process ends
        if not path.exists():
            path.write_bytes(pickle.dumps(make()))
    return pickle.loads(path.read_bytes())


@pytest.fixture
def quiet():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
