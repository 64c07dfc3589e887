"""Processes killed at random moments while they write: the old file or the new one."""

import os
import random
import signal
import subprocess
import sys
import time
import warnings

import numpy as np
import pytest

import hiercorr as hc
from hiercorr.simulate import simulate_counts

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform == "win32", reason="signals"),
    pytest.mark.filterwarnings("ignore::hiercorr.DataWarning"),
]
SCRIPT = """
import sys, hiercorr as hc
door, path, one, two = sys.argv[1:]
results = [hc.load(one), hc.load(two)]
print("ready", flush=True)
while True:
    for r in results:
        hc.report(path, r) if door == "report" else r.save(path, overwrite=True)
"""


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    """Two results by kind, saved."""
    folder = tmp_path_factory.mktemp("results")
    adata, _ = simulate_counts(6, 40, 12, mean=2, seed=1)
    adata.obs["arm"] = np.where(adata.obs["sample"].isin(["s1", "s2", "s3"]), "a", "b")
    out = {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for k, genes in enumerate((["gene0", "gene1"], ["gene2", "gene3"])):
            model = hc.BayesianCorrelation(adata, "sample", genes, depth="depth")
            draws = model.fit(draws=100, tune=100, chains=2, seed=k, progress=False)
            out["draws", k] = draws.save(folder / f"draws{k}.nc")
            target = hc.differential(adata, "sample", "arm", depth="depth", target=genes[0])
            out["differential", k] = target.save(folder / f"differential{k}.nc")
            types = hc.by_cell_type(adata, "arm", "sample", depth="depth", fit={"target": genes[0]})
            out["types", k] = types.save(folder / f"types{k}.nc")
    return out


def write(path, door, saved):
    result = hc.load(saved)
    hc.report(path, result) if door == "report" else result.save(path, overwrite=True)


def content(path, door):
    if door == "report":
        text = path.read_text()
        assert text.rstrip().endswith("</html>")
        return len(text)
    return hc.load(path).dataset.load()


@pytest.mark.parametrize("suffix", [".nc", ".zarr"])
@pytest.mark.parametrize("kind", ["differential", "draws", "types", "report"])
def test_a_kill_leaves_the_old_file_or_the_new_one(results, tmp_path, kind, suffix):
    if kind == "report" and suffix == ".zarr":
        pytest.skip("reports are HTML")
    inputs = [results["differential" if kind == "report" else kind, k] for k in (0, 1)]
    path = tmp_path / ("r.html" if kind == "report" else f"r{suffix}")
    wanted = None if kind == "report" else [hc.load(i).dataset.load() for i in inputs]
    write(path, kind, inputs[0])
    chance = random.Random(1)
    for _ in range(3):
        arguments = [sys.executable, "-W", "ignore", "-c", SCRIPT, kind, path, *inputs]
        process = subprocess.Popen(
            [str(a) for a in arguments],
            stdout=subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        )
        assert process.stdout.readline() == b"ready\n"
        time.sleep(chance.uniform(0, 1))
        process.send_signal(signal.SIGKILL)
        process.wait()
        process.stdout.close()
        found = content(path, kind)
        assert wanted is None or any(found.identical(w) for w in wanted)
    for folder in tmp_path.glob(".*.draft"):
        if not os.listdir(folder):  # killed before it was locked: removed after a minute
            os.utime(folder, (0, 0))
    write(path, kind, inputs[0])
    assert os.listdir(tmp_path) == [path.name]  # nothing is left of the killed ones
