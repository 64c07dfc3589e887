"""Processes killed at every kind of step while they write: the old file or the new one."""

import functools
import os
import signal
import subprocess
import sys
import warnings

import numpy as np
import pytest

import hiercorr as hc
from hiercorr.simulate import simulate_counts

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform != "linux", reason="fork and signals"),
    pytest.mark.filterwarnings("ignore::hiercorr.DataWarning"),
]
SCRIPT = """
import os, signal, sys, warnings
import hiercorr as hc
warnings.simplefilter("ignore")
door, path, one, two = sys.argv[1:]
folder = os.path.dirname(path)
results = [hc.load(one), hc.load(two)]
if door == "report":  # its plots take most of the time
    from matplotlib.figure import Figure
    from hiercorr.plotting import style
    style.arrange = lambda figure: None
    Figure.savefig = lambda figure, file, *_, **__: file.write(b"<svg/>")
FILES, DELETED = ("open", "os.", "shutil.", "tempfile."), ("os.remove", "os.rmdir")

def write(result):
    hc.report(path, result) if door == "report" else result.save(path, overwrite=True)

def child(kill):
    "Write the second result over the first one; return the number of steps, or die at one."
    steps = 0
    def step(event, arguments):
        nonlocal steps
        here = event in DELETED or any(folder in str(a) for a in arguments)
        if event.startswith(FILES) and here:
            steps += 1
            if steps == kill:
                os.kill(os.getpid(), signal.SIGKILL)
    sys.addaudithook(step)
    write(results[1])
    return steps

def fork(kill):
    read, out = os.pipe()
    pid = os.fork()
    if not pid:
        os.write(out, str(child(kill)).encode())
        os._exit(0)
    os.close(out)
    _, status = os.waitpid(pid, 0)
    text = os.read(read, 20)
    os.close(read)
    return text.decode() if text else f"killed {os.WTERMSIG(status)}"

for line in sys.stdin:
    write(results[0]) if line.strip() == "first" else None
    print("done" if line.strip() == "first" else fork(int(line)), flush=True)
"""


@functools.cache
def data():
    adata, _ = simulate_counts(6, 40, 12, mean=2, seed=1)
    adata.obs["arm"] = np.where(adata.obs["sample"].isin(["s1", "s2", "s3"]), "a", "b")
    return adata


def fitted(kind, genes):
    if kind == "draws":
        model = hc.BayesianCorrelation(data(), "sample", genes, depth="depth")
        return model.fit(draws=100, tune=100, chains=2, seed=1, progress=False)
    if kind == "types":
        fit = {"target": genes[0]}
        return hc.by_cell_type(data(), "arm", "sample", depth="depth", fit=fit)
    return hc.differential(data(), "sample", "arm", depth="depth", target=genes[0])


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """Two results of a kind, saved."""

    @functools.cache
    def save(kind):
        folder = tmp_path_factory.mktemp(kind)
        pairs = ["gene0", "gene1"], ["gene2", "gene3"]
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return [fitted(kind, g).save(folder / f"{g[0]}.nc") for g in pairs]

    return save


def content(path, door):
    if door == "report":
        text = path.read_text()
        assert text.rstrip().endswith("</html>")
        return len(text)
    return hc.load(path).dataset.load()


@pytest.mark.parametrize("suffix", [".nc", ".zarr"])
@pytest.mark.parametrize("kind", ["differential", "draws", "types", "report"])
def test_a_kill_leaves_the_old_file_or_the_new_one(saved, tmp_path, kind, suffix):
    """A process is killed at the steps in which it opens, moves or deletes a file or folder."""
    if kind == "report" and suffix == ".zarr":
        pytest.skip("reports are HTML")
    inputs = saved("differential" if kind == "report" else kind)
    path = tmp_path / ("r.html" if kind == "report" else f"r{suffix}")
    wanted = None if kind == "report" else [hc.load(i).dataset.load() for i in inputs]
    arguments = [sys.executable, "-W", "ignore", "-c", SCRIPT, kind, path, *inputs]
    with subprocess.Popen(
        [str(a) for a in arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
    ) as process:

        def ask(order):
            process.stdin.write(f"{order}\n")
            process.stdin.flush()
            return process.stdout.readline().strip()

        assert ask("first") == "done"
        steps = int(ask(0))
        assert steps > 5
        ends = {1, 2, 3, *range(max(steps - 7, 1), steps + 1)}
        for step in sorted(ends | set(np.linspace(1, steps, 5).astype(int).tolist())):
            assert ask("first") == "done"
            assert ask(step) == f"killed {signal.SIGKILL}", f"step {step} of {steps}"
            found = content(path, kind)
            assert wanted is None or any(found.identical(w) for w in wanted), step
        for folder in tmp_path.glob(".*.draft"):
            if not os.listdir(folder):  # killed before it was locked: removed after a minute
                os.utime(folder, (0, 0))
        assert ask("first") == "done"
        process.stdin.close()
    assert os.listdir(tmp_path) == [path.name]  # nothing is left of the killed ones
