"""Fits that are interrupted resume with the pairs they have, and targets of fits."""

from contextlib import contextmanager

import numpy as np
import pytest
import xarray as xr

import hiercorr as hc
from hiercorr.bayes import panel, sampling
from hiercorr.runtime.progress import Counted
from hiercorr.simulate import simulate_counts
from tests.bayes.support import model_of

pytest.importorskip("nutpie")
pytestmark = pytest.mark.filterwarnings("ignore")
OPTIONS = {"draws": 100, "tune": 100, "chains": 2}


@pytest.fixture(scope="module")
def data():
    return simulate_counts(4, 25, 3, mean=2.0, within=0.5, seed=2)[0]


@pytest.mark.slow
def test_resumed_fit_is_identical(data, tmp_path, monkeypatch):
    model, folder = model_of(data), tmp_path / "draws"
    whole = model.fit(**OPTIONS, seed=1)
    calls = []

    def interrupted(pair, settings, seed, report=None):
        if len(calls) == 2:
            raise MemoryError
        calls.append(seed)
        return sampling_of_a_pair(pair, settings, seed, report)

    sampling_of_a_pair = sampling.sample_pair
    monkeypatch.setattr(panel.sampling, "sample_pair", interrupted)
    with pytest.raises(MemoryError):
        model.fit(**OPTIONS, seed=1, checkpoint=folder)
    assert len(list(folder.glob("*.npy"))) == 2
    calls[:] = [0]  # one more pair is sampled
    resumed = model.fit(**OPTIONS, seed=1, checkpoint=str(folder))
    assert len(calls) == 2
    assert not folder.exists()
    for a, b in ((resumed, whole), (resumed.at("between"), whole.at("between"))):
        xr.testing.assert_equal(a.dataset, b.dataset)
    monkeypatch.undo()
    different = model.fit(**OPTIONS, seed=2).dataset["posterior_zeta"]
    assert not np.array_equal(different, whole.dataset["posterior_zeta"])


def test_an_interruption_within_a_pair_is_passed_on(data, monkeypatch):
    """nutpie's own treatment would return incomplete chains as if they were complete."""
    import nutpie

    class Running:
        cancelled = False

        def wait(self):
            raise KeyboardInterrupt

        def cancel(self):
            self.cancelled = True

    running = Running()
    monkeypatch.setattr(nutpie, "sample", lambda *_, **__: running)
    with pytest.raises(KeyboardInterrupt):
        model_of(data).fit(**OPTIONS, seed=1)
    assert running.cancelled


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"checkpoint": "x"}, "need a whole number as seed="),
        ({"checkpoint": 3, "seed": 1}, "checkpoint must be the path of a folder"),
        ({"method": "latent", "target": "gene0"}, "leave out target= and checkpoint="),
        ({"target": "gene9"}, "unknown target gene 'gene9'"),
    ],
)
def test_refusals(data, options, text):
    with pytest.raises(hc.InputError, match=text):
        model_of(data).fit(**OPTIONS, **options)


def test_target_has_its_own_pairs(data):
    r = model_of(data).fit(**OPTIONS, seed=1, target="gene1")
    assert r.target == "gene1"
    assert r.dataset["correlation"].dims == ("target", "gene")
    assert list(r.idata["posterior"]["pair"].values) == ["gene1 - gene0", "gene1 - gene2"]
    draws = np.tanh(r.pair_idata("gene2", "gene1")["posterior"]["zeta"].values)
    assert float(r.dataset["correlation"].sel(target="gene1", gene="gene2")) == pytest.approx(
        draws.mean()
    )
    assert float(r.dataset["correlation"].sel(target="gene1", gene="gene1")) == 1
    assert r.at("between").dataset["ci_lower"].dims == ("target", "gene")
    replicated = model_of(data).posterior_predictive(r, draws=5, seed=1)
    assert dict(replicated.sizes) == {"draw": 5, "gene": 3, "pair": 2}


def test_progress_counts_the_draws_of_all_pairs(data, monkeypatch):
    seen = []

    @contextmanager
    def recorded(total, show, what):
        seen.append(total)
        yield Counted(seen.append)

    monkeypatch.setattr(panel, "counted", recorded)
    model_of(data).fit(**OPTIONS, seed=1, target="gene1", progress=True)
    total, *steps = seen
    assert total == 2 * 2 * 200
    assert steps[-1] == total
    assert steps == sorted(set(steps))
    assert len(steps) > 10  # within pairs, too
