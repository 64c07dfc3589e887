"""Damage to results on disk: an error or the same numbers, never other numbers."""

import json
import shutil
import time
import warnings

import numpy as np
import pytest
import xarray as xr

import hiercorr as hc
from hiercorr.results import integrity
from tests.support import fit


@pytest.fixture(scope="module")
def saved(small, result, tmp_path_factory):
    """One result by suffix, one that was streamed, one of cell types and one with draws."""
    folder = tmp_path_factory.mktemp("saved")
    found = {kind: result.save(folder / f"saved.{kind}") for kind in ("zarr", "nc")}
    fit(small, out=folder / "streamed.zarr")
    typed = small.copy()
    typed.obs["type"] = np.where(np.arange(typed.n_obs) % 2, "A", "B")
    options = {"depth": "depth", "min_cells": 2}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        types = hc.by_cell_type(typed, "type", "sample", **options)
        model = hc.BayesianCorrelation(small, "sample", list(small.var_names[:2]), depth="depth")
        draws = model.fit(draws=100, tune=100, chains=2, seed=1, progress=False)
    return {
        **found,
        "streamed": folder / "streamed.zarr",
        "types": types.save(folder / "types.zarr"),
        "draws": draws.save(folder / "draws.nc"),
    }


def files_of(path):
    return [path] if path.is_file() else sorted(p for p in path.rglob("*") if p.is_file())


def damage(path, rng):
    """Do to one file what disks, copies and editors do; return a description."""
    files = files_of(path)
    file = files[rng.integers(len(files))]
    data = bytearray(file.read_bytes())
    kinds = ["bit", "byte", "cut", "zeros", "append", "insert"]
    kinds += ["delete"] * path.is_dir()  # a result of one file would be gone, not damaged
    kind = kinds[rng.integers(len(kinds))]
    at = int(rng.integers(max(len(data), 1)))
    if kind in ("bit", "byte") and data:
        data[at] ^= 1 << int(rng.integers(8)) if kind == "bit" else int(rng.integers(1, 256))
    elif kind == "cut":
        del data[at:]
    elif kind == "zeros":
        data[at : at + 64] = bytes(len(data[at : at + 64]))
    elif kind == "append":
        data += b"\0" * 7
    elif kind == "insert":
        data[at:at] = b"7"
    if kind == "delete":
        if rng.integers(4) == 0 and file.parent != path:
            shutil.rmtree(file.parent)
        else:
            file.unlink()
    else:
        file.write_bytes(bytes(data))
    return f"{kind} of {file.name} at {at}"


def content(dataset):
    attrs = {k: np.asarray(v).tolist() for k, v in dataset.attrs.items()}
    return dataset.load(), attrs


def outcome(path, lazy, wanted):
    """Load a damaged result as a user would: an error, or a difference to the original."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", hc.DataWarning)
            dataset, attrs = content(hc.load(path, lazy=lazy).dataset)
    except (hc.InputError, hc.DataWarning):
        return "refused"
    same = attrs == wanted[1] and dataset.drop_attrs().identical(wanted[0].drop_attrs())
    return "same" if same else "silent"


def fuzz(saved, tmp_path, n, seed):
    rng = np.random.default_rng(seed)
    silent, refused = [], 0
    for kind, path in saved.items():
        wanted = content(hc.load(path).dataset)
        for k in range(n):
            copy = tmp_path / f"{kind}{k}{path.suffix}"
            (shutil.copytree if path.is_dir() else shutil.copy)(path, copy)
            what = damage(copy, rng)
            found = outcome(copy, bool(k % 2), wanted)
            refused += found == "refused"
            if found == "silent":
                silent.append((kind, what))
            shutil.rmtree(copy) if copy.is_dir() else copy.unlink()
    return silent, refused


@pytest.mark.slow
def test_damage_is_never_silent(saved, tmp_path):
    silent, refused = fuzz(saved, tmp_path, 12, seed=3)
    assert silent == []
    assert refused > 45, refused  # the others: what was replaced by itself, as zeros by zeros


@pytest.mark.slow
def test_none_of_500_damages_is_silent(saved, tmp_path):
    silent, refused = fuzz(saved, tmp_path, 100, seed=4)
    assert silent == []
    assert refused > 400, refused


@pytest.mark.parametrize("lazy", [False, True])
@pytest.mark.parametrize("kind", ["zarr", "streamed"])
def test_every_lost_file_is_named(saved, tmp_path, kind, lazy):
    for file in files_of(saved[kind])[::7]:
        copy = tmp_path / "r.zarr"
        shutil.copytree(saved[kind], copy)
        gone = copy / file.relative_to(saved[kind])
        gone.unlink()
        with pytest.raises(hc.InputError, match="is damaged or incomplete"):
            hc.load(copy, lazy=lazy)
        shutil.rmtree(copy)


def test_a_chunk_is_verified_when_it_is_read(saved, tmp_path):
    copy = tmp_path / "r.zarr"
    shutil.copytree(saved["streamed"], copy)
    chunk = copy / "p_value" / "0.0"
    data = bytearray(chunk.read_bytes())
    data[-1] ^= 1
    chunk.write_bytes(bytes(data))
    r = hc.load(copy, lazy=True)
    assert np.isfinite(r.matrix("correlation").to_numpy()).any()
    with pytest.raises(hc.InputError, match=r"'p_value/0\.0' is not as it was written"):
        r.matrix("p_value")


def test_chunks_of_another_result_do_not_fit(saved, small, tmp_path):
    other = fit(small, estimator="pooled", uncertainty="none").save(tmp_path / "other.zarr")
    copy = tmp_path / "r.zarr"
    shutil.copytree(saved["zarr"], copy)
    shutil.copy(other / "correlation" / "0.0", copy / "correlation" / "0.0")
    with pytest.raises(hc.InputError, match="correlation"):
        hc.load(copy)


def without_checksums(path):
    """Make of a result what earlier versions wrote."""
    (path / integrity.LIST).unlink()
    for name in (".zattrs", ".zmetadata"):
        document = json.loads((path / name).read_text())
        attrs = document if name == ".zattrs" else document["metadata"][".zattrs"]
        del attrs[integrity.MARK]
        (path / name).write_text(json.dumps(document))


def test_results_without_checksums_load_with_a_note(saved, tmp_path):
    copy = tmp_path / "r.zarr"
    shutil.copytree(saved["zarr"], copy)
    without_checksums(copy)
    with pytest.warns(hc.DataWarning, match="no checksums"):
        back = hc.load(copy)
    xr.testing.assert_identical(
        back.dataset.drop_attrs(), hc.load(saved["zarr"]).dataset.drop_attrs()
    )
    (copy / "p_value" / "0.0").unlink()
    with pytest.raises(hc.InputError, match="parts of 'p_value' are missing"):
        hc.load(copy)
    (tmp_path / "r.nc").write_bytes(saved["nc"].read_bytes()[: -integrity._TRAILER_SIZE])
    with pytest.warns(hc.DataWarning, match="no checksums"):
        hc.load(tmp_path / "r.nc")


HUGE = 10**9
SHAPES = {
    "estimates": (["correlation"], {"shape": HUGE}, "parts of 'correlation' are missing"),
    "flags": (["flag"], {"shape": HUGE}, r"'flag' has the shape \(1000000000, .* 12 names"),
    "per gene": (["mean"], {"shape": HUGE}, r"'mean' has the shape .* 12 names of 'gene'"),
    "names": (["gene"], {"shape": HUGE}, "parts of 'gene' are missing"),
    "all": (None, {"shape": HUGE}, "parts of '.*' are missing"),
    "all, in one part": (None, {"shape": HUGE, "chunks": HUGE}, r"only \d+ bytes"),
    "one part": (["flag"], {"chunks": HUGE}, "in parts of"),
    "small parts": (["correlation"], {"chunks": 1}, "parts of 'correlation' are missing"),
    "parts of nothing": (["flag"], {"chunks": 0}, "in parts of"),
    "nothing": (["correlation"], {"shape": 0}, "12 names"),
    "negative": (["correlation"], {"shape": -1}, "cannot read"),
}


@pytest.mark.filterwarnings("ignore::hiercorr.DataWarning")
@pytest.mark.parametrize("lazy", [False, True])
@pytest.mark.parametrize("which", SHAPES)
def test_edited_shapes_neither_hang_nor_allocate(saved, tmp_path, which, lazy):
    names, changes, message = SHAPES[which]
    copy = tmp_path / "r.zarr"
    shutil.copytree(saved["zarr"], copy)
    without_checksums(copy)
    document = json.loads((copy / ".zmetadata").read_text())
    for key, part in document["metadata"].items():
        name = key.removesuffix("/.zarray")
        if name == key or (names is not None and name not in names):
            continue
        for field, value in changes.items():
            part[field] = [value] * len(part["shape"])
        (copy / key).write_text(json.dumps(part))
    (copy / ".zmetadata").write_text(json.dumps(document))
    start = time.perf_counter()
    with pytest.raises(hc.InputError, match=message):
        hc.load(copy, lazy=lazy)
    assert time.perf_counter() - start < 5


def test_an_interrupted_copy_is_not_an_old_result(saved, tmp_path):
    copy = tmp_path / "r.zarr"
    shutil.copytree(saved["zarr"], copy, ignore=shutil.ignore_patterns(integrity.LIST))
    with pytest.raises(hc.InputError, match="interrupted copy"):
        hc.load(copy)


@pytest.mark.parametrize("kind", ["zarr", "nc"])
def test_other_programs_read_the_files(saved, kind):
    engine = {"zarr": "zarr", "nc": "h5netcdf"}[kind]
    with xr.open_dataset(saved[kind], engine=engine) as opened:
        assert opened["p_value"].shape == (12, 12)


def test_netcdf_arrays_have_checksums_of_hdf5(saved):
    import h5py

    with h5py.File(saved["nc"]) as handle:
        numbers = [
            v for v in handle.values() if v.dtype.kind in "iuf" and v.ndim and not v.is_scale
        ]
        assert len(numbers) > 10
        assert all(v.fletcher32 or not v.ndim for v in numbers)


@pytest.mark.slow
def test_cell_types_and_lists_of_attributes_survive(result, tmp_path):
    for suffix in ("zarr", "nc"):
        path = hc.CorrelationResult(result.dataset.assign_attrs(checked=["a", "b"])).save(
            tmp_path / f"r.{suffix}"
        )
        back = hc.load(path).dataset.attrs
        assert list(back["checked"]) == ["a", "b"]
        assert integrity.MARK not in back
        again = hc.load(path).save(tmp_path / f"again.{suffix}")
        hc.load(again)
