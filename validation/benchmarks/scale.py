"""Large fits, each in a process of its own: time, memory and the size of the input.

    python -m validation.benchmarks.scale --folder DISK [--what NAME ...] [--factor 1]

``all pairs``
    20,000 genes x 100,000 cells from a file, all pairs to a ``.zarr`` result.
``one gene``
    1,000,000 cells x 20,000 genes from a file, one gene against all others.
``donors``
    5,000 donors of 200 cells x 500 genes in memory.
``cells from disk``
    300,000, 1,000,000 and 3,000,000 cells x 2,000 genes from file to file; the exponent of time
    gives the time of 10,000,000.
``dask``
    1,000,000 cells x 2,000 genes on a LocalCluster with 1, 2 and 4 workers of one thread each.

Cells beyond 50,000 are copies of these: time and memory do not depend on whether two cells differ.
Memory is the largest resident memory of the whole process, interpreter included. ``--factor 0.01``
is a small run for the test suite.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from validation.benchmarks.cscore import make_counts

DISTINCT = 50_000  # cells that are simulated
SHARD = 100_000_000  # values of a matrix that are written at once
LIMIT_S = 3_000


@dataclass(frozen=True)
class Run:
    """One fit of the table."""

    what: str
    cells: int
    genes: int
    nonzero: float
    samples: int
    workers: int = 0
    memory_limit: str | None = None

    @property
    def input(self) -> tuple[int, int, float, int]:
        return self.cells, self.genes, self.nonzero, self.samples


def runs(factor: float) -> list[Run]:
    """The fits of the table; `factor` reduces the cells, and the genes by its square root."""

    def cells(n: int) -> int:
        return max(int(n * factor), 600)

    def genes(n: int) -> int:
        return max(int(n * factor**0.5), 30)

    large = [
        Run("cells from disk", cells(n), genes(2_000), 0.05, 20)
        for n in (300_000, 1_000_000, 3_000_000)
    ]
    dask = [Run("dask", cells(1_000_000), genes(2_000), 0.05, 8, workers=n) for n in (1, 2, 4)]
    return [
        Run("all pairs", cells(100_000), genes(20_000), 0.05, 20, memory_limit="4GiB"),
        Run("one gene", cells(1_000_000), genes(20_000), 0.05, 20),
        Run("donors", cells(1_000_000), genes(500), 0.05, max(int(5_000 * factor), 3)),
        *large,
        *dask,
    ]


def write_input(run: Run, path: Path) -> None:
    """Write the counts of a fit as h5ad, part by part."""
    import anndata as ad
    import h5py

    distinct = min(run.cells, DISTINCT)
    part = make_counts(distinct, run.genes, run.nonzero, run.samples).X.astype(np.float32)
    copies = -(-run.cells // distinct)
    lengths = [min(distinct, run.cells - k * distinct) for k in range(copies)]
    # samples of equal size, without an order: every copy contains all of them
    sample = np.random.default_rng(0).permutation(np.arange(run.cells) % run.samples)
    obs = pd.DataFrame({"sample": sample.astype(str)}, index=np.arange(run.cells).astype(str))
    var = pd.DataFrame(
        {"mean": np.asarray(part.mean(0)).ravel()}, index=[f"g{j}" for j in range(run.genes)]
    )
    nnz = [int(part.indptr[n]) for n in lengths]
    ad.AnnData(obs=obs, var=var).write_h5ad(path)
    with h5py.File(path, "r+") as f:
        if "X" in f:
            del f["X"]
        x = f.create_group("X")
        x.attrs.update(
            {
                "encoding-type": "csr_matrix",
                "encoding-version": "0.1.0",
                "shape": np.array([run.cells, run.genes], np.int64),
            }
        )
        chunks = (1 << 20,) if sum(nnz) > 1 << 20 else True
        data = x.create_dataset("data", (sum(nnz),), np.float32, chunks=chunks)
        indices = x.create_dataset("indices", (sum(nnz),), np.int32, chunks=chunks)
        pointers = [np.zeros(1, np.int64)]
        at = 0
        for n, size in zip(lengths, nnz, strict=True):
            for start in range(0, size, SHARD):
                stop = min(start + SHARD, size)
                data[at + start : at + stop] = part.data[start:stop]
                indices[at + start : at + stop] = part.indices[start:stop]
            pointers.append(part.indptr[1 : n + 1].astype(np.int64) + at)
            at += size
        x.create_dataset("indptr", data=np.concatenate(pointers))


def call_of(run: Run, path: Path, folder: Path) -> Callable[[], Any]:
    """The fit to be measured; what comes before it is not counted."""
    import anndata as ad

    import hiercorr as hc

    if run.what == "one gene":
        target = ad.read_h5ad(path, backed="r").var["mean"].idxmax()
        return lambda: hc.CSCore(path, "sample").fit(target=target, progress=False)
    if run.what == "donors":
        adata = ad.read_h5ad(path)
        return lambda: hc.CSCore(adata, "sample").fit(progress=False)
    if run.what == "dask":
        from dask.distributed import Client, LocalCluster

        cluster = LocalCluster(
            n_workers=run.workers, threads_per_worker=1, processes=True, dashboard_address=None
        )
        client = Client(cluster)
        return lambda: hc.CSCore(path, "sample", scheduler=client).fit(progress=False)
    out = folder / "result.zarr"
    return lambda: hc.CSCore(path, "sample", scratch=folder, memory_limit=run.memory_limit).fit(
        out=out, overwrite=True, progress=False
    )


def worker(run: Run, path: Path, folder: Path) -> None:
    warnings.simplefilter("ignore")
    call = call_of(run, path, folder)
    if run.what == "dask":  # compilation and the start of the workers are not counted
        call()
    cpu, wall = time.process_time(), time.perf_counter()
    result = call()
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    finite = float(np.isfinite(result.dataset["correlation"][:50].values).mean())
    row = {
        "wall_s": wall,
        "cpu_s": cpu,
        "peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
        "input_mb": path.stat().st_size / 1e6,
        "estimated": finite,
    }
    print(json.dumps(row), flush=True)
    os._exit(0)  # a cluster takes seconds to end, and nothing is left to be written


def measure(run: Run, path: Path, folder: Path) -> dict[str, Any]:
    """Run one fit in a new process; a failure is an entry of the table."""
    command = [sys.executable, "-m", "validation.benchmarks.scale"]
    command += ["--worker", json.dumps(asdict(run)), "--input", str(path), "--folder", str(folder)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=LIMIT_S)
    except subprocess.TimeoutExpired:
        return {**asdict(run), "note": f"stopped after {LIMIT_S} s"}
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["?"])[-1]
        return {**asdict(run), "note": f"failed: {last[:160]}"}
    return {**asdict(run), **json.loads(done.stdout.splitlines()[-1])}


def extrapolated(table: pd.DataFrame, cells: int = 10_000_000) -> dict[str, Any] | None:
    """Time from disk for more cells, by the exponent of the two largest runs."""
    measured = table[table["what"] == "cells from disk"]
    if "wall_s" not in measured or measured["wall_s"].notna().sum() < 2:
        return None
    last = measured.dropna(subset="wall_s").sort_values("cells").tail(2)
    size, seconds = np.log(last["cells"].to_numpy(float)), np.log(last["wall_s"].to_numpy())
    exponent = float((seconds[1] - seconds[0]) / (size[1] - size[0]))
    wall = float(np.exp(seconds[1] + exponent * (np.log(cells) - size[1])))
    note = f"extrapolated from the two largest runs: time ~ cells^{exponent:.2f}"
    row = {k: last[k].iloc[-1] for k in ("genes", "nonzero", "samples")}
    return {"what": "cells from disk", "cells": cells, **row, "wall_s": wall, "note": note}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    names = list(dict.fromkeys(run.what for run in runs(1)))
    parser.add_argument("--what", nargs="+", choices=names, default=names)
    parser.add_argument("--factor", type=float, default=1.0)
    parser.add_argument("--folder", type=Path, help="disk with some 25 GB; default: temporary")
    parser.add_argument("--out", type=Path, help="write the table as CSV; other rows in it remain")
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    parser.add_argument("--input", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.worker:
        worker(Run(**json.loads(args.worker)), args.input, args.folder)
        return
    rows = []
    folder = Path(tempfile.mkdtemp(dir=args.folder))
    before = None
    try:
        for run in (run for run in runs(args.factor) if run.what in args.what):
            path = folder / "counts.h5ad"
            if before != run.input:
                path.unlink(missing_ok=True)
                write_input(run, path)
            before = run.input
            rows.append(measure(run, path, folder))
            print(rows[-1], file=sys.stderr, flush=True)
            shutil.rmtree(folder / "result.zarr", ignore_errors=True)
    finally:
        shutil.rmtree(folder)
    table = pd.DataFrame(rows)
    more = extrapolated(table)
    if more is not None:
        table = pd.concat([table, pd.DataFrame([more])], ignore_index=True)
    print(table.round(2).to_string(index=False))
    if args.out:
        if args.out.exists():
            kept = pd.read_csv(args.out)
            kept = kept[~kept["what"].isin(set(table["what"]))]
            table = pd.concat([kept, table], ignore_index=True)
        table.to_csv(args.out, index=False, float_format="%.4g")


if __name__ == "__main__":
    main()
