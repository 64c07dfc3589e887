"""CPU time of the first answers on a new machine: compilation of the loops that they need.

    python -m validation.benchmarks.cold --out validation/results/bench_cold.csv

Two processes with an empty compilation cache use the bundled glioblastoma data: one reads them,
fits one gene against all, then all pairs; the other runs ``hiercorr demo``. Every step is repeated:
the difference is compilation, imports and memory that is used for the first time. Seconds depend on
the machine and on its load, so those of compilation are also divided by the time to compile fixed
loops in the same processes.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path

import pandas as pd

COMMITTED = Path(__file__).parents[1] / "results" / "bench_cold.csv"
OPTIONS = {"sample": "sample_id", "depth": "total_counts", "subset": {"condition": "ctrl"}}
PROCESSES = {"fits": ("read", "one gene", "all pairs"), "demo": ("demo",)}
SOURCE = """
def loop_{k}(begin, end, x, y, z, out):
    for t in range(begin, end):
        for u in range(x.shape[1]):
            v = x[t, u] * y[u] - z[t] + {k}
            w = np.sqrt(abs(v)) / (1.0 + v * v) if v > z[t] else np.nan
            out[t, u] = max(w, out[t, u]) + np.float64(v < w)
        for u in range(1, x.shape[1]):
            out[t, u] += out[t, u - 1] * y[u]
"""


def cpu() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def reference(first: int) -> float:
    """CPU seconds to compile four fixed loops, which differ in a constant."""
    import numba
    import numpy as np

    space: dict = {"np": np}
    start = cpu()
    for k in range(first, first + 4):
        exec(SOURCE.format(k=k), space)
        x = np.ones((3, 4), np.float32)
        numba.njit(nogil=True, error_model="numpy")(space[f"loop_{k}"])(
            0, 3, x, np.ones(4), np.ones(3), np.ones((3, 4))
        )
    return cpu() - start


def compilations() -> Callable[[], tuple[int, float]]:
    """Count the compiled functions of the package, without numba's own, and their CPU seconds."""
    from numba.core import event

    class Counter(event.Listener):
        number = depth = 0
        seconds = start = 0.0

        def on_start(self, event: event.Event) -> None:
            module = event.data["dispatcher"].py_func.__module__
            self.number += str(module).startswith("hiercorr.")
            if self.depth == 0:  # functions that it calls are compiled in between
                self.start = time.thread_time()
            self.depth += 1

        def on_end(self, event: event.Event) -> None:
            self.depth -= 1
            if self.depth == 0:
                self.seconds += time.thread_time() - self.start

    counter = Counter()
    event.register("numba:compile", counter)
    return lambda: (counter.number, counter.seconds)


def steps() -> dict[str, Callable[[], object]]:
    import hiercorr as hc
    from hiercorr.cli import main

    adata = hc.datasets.glioblastoma()

    def demo() -> None:
        with tempfile.TemporaryDirectory() as folder:
            output = str(Path(folder) / "demo.html")
            main(["demo", "-o", output], standalone_mode=False)

    return {
        "read": lambda: hc.CSCore(adata, **OPTIONS),
        "one gene": lambda: hc.CSCore(adata, **OPTIONS).fit(target="FTL"),
        "all pairs": lambda: hc.CSCore(adata, **OPTIONS).fit(),
        "demo": demo,
    }


def worker(names: tuple[str, ...]) -> None:
    """Run steps twice each, and print their CPU times, between two runs of the reference."""
    warnings.simplefilter("ignore")
    start = cpu()
    do, compiled = steps(), compilations()
    found = [("import", cpu() - start, 0.0, 0, 0.0)]
    for name in names:
        before, seconds = compiled()
        start = cpu()
        do[name]()
        took = cpu() - start
        number, total = compiled()
        start = cpu()
        do[name]()
        found.append((name, took, cpu() - start, number - before, total - seconds))
    columns = ("step", "cpu_s", "again_s", "compiled", "compiling_s")
    rows = [dict(zip(columns, row, strict=True)) for row in found]
    # The compiler's own start is not part of it: a step has compiled already, or this does.
    reference(0)
    measured = min(reference(4), reference(8))
    print(json.dumps([{**row, "reference_s": measured} for row in rows]))


def measure(processes: dict[str, tuple[str, ...]] = PROCESSES) -> pd.DataFrame:
    """CPU seconds by step.

    Returns
    -------
    DataFrame
        ``cpu_s`` of the first run in a process with an empty cache, ``again_s`` of the second,
        number of functions ``compiled``, ``compiling_s`` of the first run, and ``relative``: that
        in units of the time to compile the reference, ``reference_s``.
    """
    rows: list[dict] = []
    for names in processes.values():
        with tempfile.TemporaryDirectory() as cache:
            done = subprocess.run(
                [sys.executable, "-m", "validation.benchmarks.cold", "--worker", *names],
                env={**os.environ, "NUMBA_CACHE_DIR": cache},
                capture_output=True,
                text=True,
            )
        if done.returncode:
            raise RuntimeError(done.stderr)
        found = json.loads(done.stdout.splitlines()[-1])
        rows += found[len(rows) > 0 :]  # the import once
    table = pd.DataFrame(rows)
    table["relative"] = table["compiling_s"] / table["reference_s"]
    return table


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, help="write the table as CSV")
    parser.add_argument("--worker", nargs="+", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.worker:
        worker(tuple(args.worker))
        return
    table = measure()
    print(table.round(2).to_string(index=False))
    if args.out:
        table.to_csv(args.out, index=False, float_format="%.4g")


if __name__ == "__main__":
    main()
