"""netCDF files on a disk that is full: an error, and the result is still there."""

import io
import os
import subprocess
import sys

import pytest

import hiercorr as hc
from hiercorr.results import netcdf
from tests.support import TESTS

SCRIPT = """
import gc, os, resource
import numpy as np, xarray as xr
import hiercorr as hc
from hiercorr.results import netcdf
values = np.random.default_rng(0).uniform(size=(60, 60))
names = np.array([f"gene{j}" for j in range(60)], object)
pair = {n: (("gene", "partner"), values) for n in ("correlation", "se", "p_value", "q_value")}
flag = (("gene", "partner"), np.zeros((60, 60), np.uint16))
data = xr.Dataset({**pair, "flag": flag}, {"gene": names, "partner": names})
r = hc.CorrelationResult(data.assign_attrs(
    schema_version="2.0", hiercorr_version="0", model="CSCore", title="a", level="within",
    estimator="within", formula="~ 1", uncertainty="none", n_samples=1, n_cells=1,
))
kind = resource.RLIMIT_FSIZE
hard = resource.getrlimit(kind)[1]
# The second is a file system that cannot reserve, or a disk that fails.
for reserve in (netcdf._reserve, lambda *a: None):
    netcdf._reserve = reserve
    resource.setrlimit(kind, (40_000, hard))
    for _ in range(3):
        try:
            r.save("r.nc")
        except OSError as error:
            print("failed:", error)
        gc.collect()
        assert os.listdir(".") == [], os.listdir(".")
    resource.setrlimit(kind, (resource.RLIM_INFINITY, hard))
    assert hc.load(r.save("r.nc")).dataset.equals(data)
    os.remove("r.nc")
    print("alive")
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="no limits of file sizes")
def test_a_full_disk_is_an_error_that_the_session_survives(tmp_path):
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(TESTS.parent)},
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout.count("File too large: cannot write 'r.nc'") == 6
    assert done.stdout.count("alive") == 2


def test_other_errors_of_writing_are_not_hidden(result, tmp_path):
    odd = hc.CorrelationResult(result.dataset.assign_attrs(odd=object()))
    with pytest.raises(TypeError):
        odd.save(tmp_path / "r.nc")
    assert list(tmp_path.iterdir()) == []


def test_what_is_written_after_an_error_is_read_back(tmp_path):
    class Full(io.FileIO):
        def write(self, data):
            if self.tell() >= 10:
                raise OSError(28, "No space left on device")
            return super().write(data[: 10 - self.tell()])

    with Full(tmp_path / "f", "w+b") as file:
        guarded = netcdf._Guarded(file)
        guarded.write(b"0123456789abcdef")
        guarded.seek(4)
        guarded.write(b"XY")
        guarded.seek(20)
        guarded.write(b"z")
        guarded.seek(0)
        assert guarded.read(21) == b"0123XY6789abcdef\0\0\0\0z"
        assert guarded.error.errno == 28
