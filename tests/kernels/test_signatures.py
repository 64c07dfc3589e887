"""Each loop is compiled once for each precision, whatever the types of the input."""

import os
import subprocess
import sys

import pytest

CODE = """
import warnings; warnings.simplefilter("ignore")
import numpy as np
from numba.core.dispatcher import Dispatcher
import hiercorr as hc
from hiercorr import kernels

adata = hc.datasets.glioblastoma()
options = {"sample": "sample_id", "depth": "total_counts"}

def compiled():
    found = {}
    for module in (m for m in vars(kernels).values() if hasattr(m, "__file__")):
        for name, value in vars(module).items():
            cells = getattr(value, "__closure__", None) or ()
            for loop in [value, *(cell.cell_contents for cell in cells)]:
                if isinstance(loop, Dispatcher) and loop.signatures:
                    found[name] = loop.signatures
    return found

models = [hc.CSCore(adata, **options, subset={"condition": "ctrl"})]
assert not compiled(), f"compiled to read 300 genes: {list(compiled())}"
other = adata.copy()  # other types of counts and positions
other.X = other.X.astype(np.float64)
other.X.indices, other.X.indptr = (x.astype(np.int64) for x in (other.X.indices, other.X.indptr))
models.append(hc.CSCore(other, **options, subset={"condition": "ctrl"}))
models.append(hc.CSCore(adata, "patient_id"))
kernels.counts._SMALL = 0
models.append(hc.CSCore(other, None, depth="total_counts"))
for model in models[:3]:
    model.fit(target="FTL")
    model.fit(uncertainty="jackknife")
for model in models:
    model.fit("pooled", uncertainty="none")
hc.differential(adata, **options, condition="condition", block="patient_id")
hc.Pseudobulk(adata, **options).fit()
for name, signatures in compiled().items():
    # Copies of results: correlations, flags and the p-values of cells differ in type.
    assert len(signatures) <= (3 if name == "_place_blocks" else 1), (name, signatures)
print(len(compiled()), "loops")
"""


@pytest.mark.slow
def test_one_signature_per_loop_and_none_to_read():
    done = subprocess.run(
        [sys.executable, "-c", CODE],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": os.getcwd()},
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert int(done.stdout.split()[0]) > 10
