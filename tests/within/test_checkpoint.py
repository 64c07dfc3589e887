"""Fits that are killed go on where they stopped and end with the same numbers."""

import itertools
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

import hiercorr as hc
from hiercorr.within import fitting
from tests.support import OPTIONS, assert_same

pytestmark = pytest.mark.filterwarnings(
    "ignore::hiercorr.DataWarning", "ignore::hiercorr.EstimationWarning"
)


@pytest.fixture(scope="module")
def data(forty_genes):
    return forty_genes


@pytest.fixture(scope="module")
def plain(forty_genes_fit):
    return forty_genes_fit


KILLED = """
import os, sys, warnings, signal
warnings.simplefilter("ignore")
import hiercorr as hc
from hiercorr.results import tiling
from hiercorr.moments import pairs
tiling._TILE_GENES, tiling.WIDE, tiling._LEAST_GENES = 13, 13, 1
inner, calls = pairs.cross_products, 0
def counted(*args):
    global calls
    calls += 1
    if calls == int(sys.argv[3]):
        os.kill(os.getpid(), signal.SIGKILL)
    return inner(*args)
pairs.cross_products = counted
hc.CSCore(sys.argv[1], sample="sample", depth="depth").fit("pooled", checkpoint=sys.argv[2])
"""


@pytest.mark.slow
def test_killed_fit_goes_on_and_ends_the_same(data, small_tiles, monkeypatch, tmp_path):
    from hiercorr.moments import pairs

    path, kept = tmp_path / "counts.h5ad", tmp_path / "kept"
    data.write_h5ad(path)
    wanted = hc.CSCore(path, **OPTIONS).fit("pooled").dataset
    for at in (9, 23):  # killed twice; the second run does not begin again
        done = subprocess.run(
            [sys.executable, "-c", KILLED, str(path), str(kept), str(at)], capture_output=True
        )
        assert done.returncode == -signal.SIGKILL, done.stderr
    assert len(list(kept.glob("*.npy"))) == 8 + 22
    inner, calls = pairs.cross_products, itertools.count()
    monkeypatch.setattr(pairs, "cross_products", lambda *a: (next(calls), inner(*a))[1])
    found = hc.CSCore(path, **OPTIONS).fit("pooled", checkpoint=kept).dataset
    assert next(calls) == 10 * (5 + 1) - 30  # 10 tiles, 5 samples and the test over all
    assert_same(found, wanted, exact=True)
    assert not kept.exists()


def interrupt(data, monkeypatch, folder):
    """A fit that is stopped when the sums of its first tile are kept."""

    def stop(*_, **__):
        raise KeyboardInterrupt

    with monkeypatch.context() as m:
        m.setattr(fitting, "tile_of", stop)
        with pytest.raises(KeyboardInterrupt):
            hc.CSCore(data, **OPTIONS).fit(checkpoint=folder)


def test_checkpoint_of_other_counts_is_not_used(data, monkeypatch, tmp_path):
    kept, other = tmp_path / "kept", tmp_path / "other.txt"
    kept.mkdir()
    (kept / "mine.txt").write_text("stays")

    interrupt(data, monkeypatch, kept)
    assert len(list(kept.glob("*.npy"))) == 5
    changed = data.copy()
    changed.X[0, np.flatnonzero(changed.X[0].toarray()[0])[0]] += 1
    found = hc.CSCore(changed, **OPTIONS).fit(checkpoint=kept).dataset
    assert_same(found, hc.CSCore(changed, **OPTIONS).fit().dataset, exact=True)
    assert len(list(kept.glob("*.npy"))) == 5  # those of the first data are still there
    hc.CSCore(data, **OPTIONS).fit(checkpoint=kept)
    assert [p.name for p in kept.iterdir()] == ["mine.txt"]
    other.write_text("")
    with pytest.raises(hc.InputError, match="cannot create the checkpoint folder"):
        hc.CSCore(data, **OPTIONS).fit(checkpoint=other)


def test_damaged_checkpoint_is_computed_again(data, plain, monkeypatch, tmp_path):
    interrupt(data, monkeypatch, tmp_path)
    first = sorted(tmp_path.glob("*.npy"))[0]
    content = bytearray(first.read_bytes())
    content[300] ^= 4  # a number, not the header
    first.write_bytes(bytes(content))
    second = sorted(tmp_path.glob("*.npy"))[1]
    second.write_bytes(second.read_bytes()[:200])
    assert_same(hc.CSCore(data, **OPTIONS).fit(checkpoint=tmp_path).dataset, plain, exact=True)


TOGETHER = """
import sys, time, warnings
warnings.simplefilter("ignore")
import hiercorr as hc
model = hc.CSCore(sys.argv[1], sample="sample", depth="depth", genes=int(sys.argv[3]))
while time.time() < float(sys.argv[4]):
    time.sleep(0.01)
try:
    model.fit(checkpoint=sys.argv[2])
    print("fitted")
except hc.InputError as error:
    print("busy" if "in use by another process" in str(error) else error)
"""


@pytest.mark.slow
def test_several_processes_share_a_folder(data, tmp_path):
    """Two fits of the same genes and one of others begin at the same time: none of them dies."""
    path, kept = tmp_path / "counts.h5ad", tmp_path / "kept"
    data.write_h5ad(path)
    start = str(time.time() + 12)
    running = [
        subprocess.Popen(
            [sys.executable, "-c", TOGETHER, str(path), str(kept), genes, start],
            stdout=subprocess.PIPE,
            text=True,
        )
        for genes in ("40", "40", "39")
    ]
    said = [p.communicate()[0].strip() for p in running]
    assert said[2] == "fitted"
    assert "fitted" in said[:2]
    assert set(said) <= {"fitted", "busy"}
    assert not kept.exists()


def test_a_folder_in_use_is_refused_and_free_after_an_error(data, monkeypatch, tmp_path):
    def nested(*_, **__):
        with pytest.raises(hc.InputError, match="in use by another process"):
            hc.CSCore(data, **OPTIONS).fit(checkpoint=tmp_path / "kept")
        raise KeyboardInterrupt

    with monkeypatch.context() as m:
        m.setattr(fitting, "tile_of", nested)
        with pytest.raises(KeyboardInterrupt):
            hc.CSCore(data, **OPTIONS).fit(checkpoint=tmp_path / "kept")
    hc.CSCore(data, **OPTIONS).fit(checkpoint=tmp_path / "kept")
    assert not (tmp_path / "kept").exists()
