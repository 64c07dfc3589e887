"""hiercorr against CS-CORE in Python and R in one run: time and peak memory beyond the input.

    git clone https://github.com/ChangSuBiostats/CS-CORE_python PEER
    git clone https://github.com/ChangSuBiostats/CS-CORE R_PEER
    python -m validation.benchmarks.cscore --peer PEER --r-peer R_PEER
        [--cells 20000 --genes 5000 --nonzero 0.2 --samples 20]

numpy.corrcoef of log counts, which does no statistics, is the floor.

Every measurement is a process of its own that makes the same data from the same seed, notes its
memory, runs the fit and notes the peak. "cold" is the first fit of a process with an empty
compilation cache, "warm" the second fit of the process. Times compare as ratios within the run; the
machine's absolute speed means little.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import threading
import time
import warnings
from pathlib import Path

import numpy as np

FITS: dict[str, dict[str, str]] = {
    "pooled": {"estimator": "pooled", "uncertainty": "none"},
    "pooled, jackknife": {"estimator": "pooled", "uncertainty": "jackknife"},
    "within": {},
    "within, jackknife": {"uncertainty": "jackknife"},
}


def make_counts(cells: int, genes: int, nonzero: float, samples: int, seed: int = 1):
    """Simulate Poisson-gamma counts with gene means over three decades, at a given density."""
    import anndata as ad
    import pandas as pd
    from scipy import optimize, sparse

    rng = np.random.default_rng(seed)
    depth = rng.lognormal(0, 0.4, cells)
    shape = 2.0
    spread = rng.normal(0, 1.5, genes)
    zero = lambda m: np.mean((1 + np.exp(spread + m) / shape) ** -shape)  # noqa: E731
    level = optimize.brentq(lambda m: zero(m) - (1 - nonzero), -15, 10)
    mean = np.exp(spread + level)
    blocks = []
    for start in range(0, cells, 1000):
        s = depth[start : start + 1000]
        rate = rng.gamma(shape, 1 / shape, (len(s), genes)).astype(np.float32) * (
            s[:, None] * mean
        ).astype(np.float32)
        blocks.append(sparse.csr_matrix(rng.poisson(rate).astype(np.float64)))
    x = sparse.vstack(blocks, format="csr")
    obs = pd.DataFrame({"sample": np.sort(rng.integers(0, samples, cells)).astype(str)})
    obs.index = obs.index.astype(str)
    return ad.AnnData(x, obs=obs, var=pd.DataFrame(index=[f"g{j}" for j in range(genes)]))


class PeakMemory(threading.Thread):
    """Largest resident memory of this process while it runs, less that at the start (MB)."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.start_mb = self.now()
        self.peak = self.start_mb
        self.stop = threading.Event()

    @staticmethod
    def now() -> float:
        with open("/proc/self/statm") as f:
            return int(f.read().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6

    def run(self) -> None:
        while not self.stop.wait(0.005):
            self.peak = max(self.peak, self.now())

    def beyond(self) -> float:
        self.stop.set()
        self.join()
        return self.peak - self.start_mb


def measure(call) -> dict[str, float]:
    memory = PeakMemory()
    memory.start()
    cpu, wall = resource.getrusage(resource.RUSAGE_SELF), time.perf_counter()
    call()
    wall = time.perf_counter() - wall
    end = resource.getrusage(resource.RUSAGE_SELF)
    return {
        "wall_s": wall,
        "cpu_s": end.ru_utime + end.ru_stime - cpu.ru_utime - cpu.ru_stime,
        "peak_mb": memory.beyond(),
    }


def worker(args: argparse.Namespace) -> None:
    warnings.simplefilter("ignore")
    adata = make_counts(args.cells, args.genes, args.nonzero, args.samples)
    share = adata.X.nnz / (args.cells * args.genes)
    if args.worker == "numpy.corrcoef":
        x = np.log1p(adata.X.toarray())
        rows = [measure(lambda: np.corrcoef(x, rowvar=False)) for _ in range(2)][1:]
    elif args.worker == "CS-CORE Python":
        setattr(np, "Inf", np.inf)  # noqa: B010, the peer was written for numpy 1
        sys.path.insert(0, str(args.peer))
        from CSCORE import CSCORE_IRLS

        run = getattr(CSCORE_IRLS, "CSCORE_IRLS", CSCORE_IRLS)
        depth = np.asarray(adata.X.sum(1)).ravel()
        kept: dict = {}
        rows = [measure(lambda: kept.update(out=run(adata.X, depth)))]
        np.save(args.keep, np.stack([kept["out"][0], kept["out"][2]])[:, :300, :300])
    else:
        import hiercorr as hc

        options = FITS[args.worker]
        rows = []
        kept = {}
        for _ in range(1 + args.repeat):
            kept.clear()
            rows.append(
                measure(
                    lambda: kept.update(
                        r=hc.CSCore(adata, sample="sample").fit(progress=False, **options)
                    )
                )
            )
        if args.worker == "pooled":
            ds = kept["r"].dataset.isel(gene=slice(300), partner=slice(300))
            np.save(
                args.keep,
                np.stack([ds["correlation_unclipped"].values, ds["cell_statistic"].values]),
            )
    print(json.dumps({"nonzero": share, "rows": rows}))


def measure_r(args: argparse.Namespace, folder: Path, keep: Path) -> dict[str, float]:
    """Run CS-CORE's base R implementation on the same counts in a process of Rscript."""
    adata = make_counts(args.cells, args.genes, args.nonzero, args.samples)
    counts = folder / "counts.bin"
    with counts.open("wb") as f:
        for start in range(0, args.genes, 500):
            adata.X[:, start : start + 500].toarray(order="F").T.tofile(f)
    script = Path(__file__).with_name("cscore_base.R")
    command = ["Rscript", "--vanilla", str(script), str(args.r_peer), str(counts)]
    command += [str(args.cells), str(args.genes), str(keep)]
    del adata
    done = subprocess.run(command, capture_output=True, text=True)
    counts.unlink()
    if done.returncode:
        sys.exit(done.stderr)
    n = min(args.genes, 300)
    found = np.fromfile(keep).reshape(2, n, n)
    np.save(keep.with_suffix(".npy"), found)
    return json.loads(done.stdout.splitlines()[-1])


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--peer", type=Path, help="checkout of CS-CORE Python; left out: ours alone"
    )
    parser.add_argument(
        "--r-peer", type=Path, help="checkout of CS-CORE for R, run by Rscript; left out: without"
    )
    parser.add_argument("--cells", type=int, default=20_000)
    parser.add_argument("--genes", type=int, default=5_000)
    parser.add_argument("--nonzero", type=float, default=0.2)
    parser.add_argument("--samples", type=int, default=20)
    parser.add_argument("--repeat", type=int, default=2, help="warm fits")
    parser.add_argument("--out", type=Path, help="write the table as CSV")
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    parser.add_argument("--keep", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.worker:
        worker(args)
        return
    import pandas as pd

    folder = Path(tempfile.mkdtemp())
    table = []
    for name in (*FITS, "numpy.corrcoef", *(["CS-CORE Python"] if args.peer else [])):
        env = {**os.environ, "NUMBA_CACHE_DIR": str(folder / "numba" / name)}
        command = [
            sys.executable,
            __file__,
            "--worker",
            name,
            "--keep",
            str(folder / f"{name}.npy"),
        ]
        for option in ("cells", "genes", "nonzero", "samples", "repeat"):
            command += [f"--{option}", str(getattr(args, option))]
        command += ["--peer", str(args.peer)] if args.peer else []
        done = subprocess.run(command, env=env, capture_output=True, text=True)
        if done.returncode:
            sys.exit(done.stderr)
        out = json.loads(done.stdout.splitlines()[-1])
        for k, row in enumerate(out["rows"]):
            run = "only" if name not in FITS else "cold" if k == 0 else "warm"
            table.append({"what": name, "run": run, "nonzero": round(out["nonzero"], 3), **row})
        print(table[-1], file=sys.stderr)
    if args.r_peer:
        row = measure_r(args, folder, folder / "CS-CORE R.bin")
        table.append({"what": "CS-CORE R", "run": "only", "nonzero": table[-1]["nonzero"], **row})
        print(table[-1], file=sys.stderr)
    frame = pd.DataFrame(table)
    frame = frame.groupby(["what", "run", "nonzero"], sort=False, as_index=False).median()
    pooled = frame.query("what == 'pooled' and run == 'warm'")["wall_s"].item()
    frame["wall_over_pooled"] = frame["wall_s"] / pooled
    print(frame.round(2).to_string(index=False))
    ours = np.load(folder / "pooled.npy")
    off = ~np.eye(ours.shape[1], dtype=bool)
    for peer in ("CS-CORE Python", "CS-CORE R"):
        if not (folder / f"{peer}.npy").exists():
            continue
        theirs = np.load(folder / f"{peer}.npy")
        known = np.isfinite(ours[0]) & off & (np.abs(theirs[0]) < 1)
        print(
            f"difference to {peer} on the first 300 genes: correlation "
            f"{np.abs(ours[0] - theirs[0])[known].max():.1e}, "
            f"statistic {np.abs(ours[1] - theirs[1])[known & np.isfinite(ours[1])].max():.1e}"
        )
    if args.out:
        if args.out.exists():  # rows of other densities remain
            kept = pd.read_csv(args.out)
            frame = pd.concat([kept[kept["nonzero"] != frame["nonzero"].iloc[0]], frame])
        frame.to_csv(args.out, index=False, float_format="%.4g")


if __name__ == "__main__":
    main()
