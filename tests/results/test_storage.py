"""Results on disk: read back as written, written whole or not at all."""

import os
import stat

import anndata as ad
import numpy as np
import pytest
import xarray as xr

import hiercorr as hc
from hiercorr.results import storage
from tests.support import fit


@pytest.mark.parametrize("suffix", [".zarr", ".nc"])
@pytest.mark.parametrize("which", ["result", "one"])
def test_round_trip(suffix, which, request, tmp_path):
    original = request.getfixturevalue(which)
    path = original.save(tmp_path / f"r{suffix}")
    back = hc.load(path)
    xr.testing.assert_identical(back.dataset.drop_attrs(), original.dataset.drop_attrs())
    assert set(back.dataset.attrs) == set(original.dataset.attrs)
    for name, value in original.dataset.attrs.items():
        assert np.array_equal(back.dataset.attrs[name], value), name
    for name, variable in original.dataset.variables.items():
        attrs = back.dataset[name].attrs
        assert set(attrs) == set(variable.attrs), name
        assert all(np.array_equal(attrs[k], v) for k, v in variable.attrs.items()), name
        assert back.dataset[name].dtype == variable.dtype, name
    assert back.top("gene0", 3).equals(original.top("gene0", 3))
    assert os.listdir(tmp_path) == [path.name]


def test_two_sample_and_pooled_results_round_trip(small, tmp_path):
    r = fit(small, estimator="pooled", uncertainty="none")
    back = hc.load(r.save(tmp_path / "r.zarr"))
    xr.testing.assert_identical(back.dataset.drop_attrs(), r.dataset.drop_attrs())


@pytest.mark.sampled(2)
@pytest.mark.parametrize("suffix", [".zarr", ".nc"])
def test_saving_is_whole_or_not_at_all(result, small, tmp_path, suffix, monkeypatch):
    path = result.save(tmp_path / f"r{suffix}")
    with pytest.raises(FileExistsError, match="overwrite=True"):
        result.save(path)
    other = fit(small, target="gene1")
    write = "as_zarr" if suffix == ".zarr" else "write_netcdf"
    real = getattr(storage, write)

    def interrupted(*args, **kwargs):
        real(*args, **kwargs)
        raise OSError("No space left on device")

    monkeypatch.setattr(storage, write, interrupted)
    with pytest.raises(OSError, match="No space"):
        other.save(path, overwrite=True)
    monkeypatch.undo()
    assert hc.load(path).target is None
    assert os.listdir(tmp_path) == [path.name]
    other.save(path, overwrite=True)
    assert hc.load(path).target == "gene1"
    assert os.listdir(tmp_path) == [path.name]


def test_save_and_load_refuse(result, tmp_path):
    with pytest.raises(hc.InputError, match=r"must end in \.zarr or \.nc"):
        result.save(tmp_path / "r.csv")
    with pytest.raises(hc.InputError, match="no folder"):
        result.save(tmp_path / "nowhere" / "r.nc")
    with pytest.raises(hc.InputError, match="no such result"):
        hc.load(tmp_path / "r.nc")
    (tmp_path / "bad.nc").write_text("text")
    with pytest.raises(hc.InputError, match="cannot read"):
        hc.load(tmp_path / "bad.nc")
    newer = hc.CorrelationResult(result.dataset.assign_attrs(schema_version="3.0"))
    newer.save(tmp_path / "newer.nc")
    with pytest.raises(hc.InputError, match=r"schema version 3\.0"):
        hc.load(tmp_path / "newer.nc")
    result.dataset[["mean"]].to_netcdf(tmp_path / "part.nc", engine="h5netcdf")
    with pytest.raises(hc.InputError):
        hc.load(tmp_path / "part.nc")


NO_RESULTS = {
    "folder": "is a folder, but no result.*such as other.zarr",
    "empty.zarr": "no zarr folder; is it complete",
    "text.txt": "is not a result",
    "table.csv": "is not a result",
    "text.nc": "not HDF5; is the file complete",
    "empty.nc": "not HDF5; is the file complete",
    "counts.h5ad": "not a result of hiercorr: it has no schema_version",
    "nowhere.zarr": "no such result",
    "a\0b.nc": "no such result",
}


@pytest.mark.filterwarnings("error::hiercorr.DataWarning")
@pytest.mark.parametrize("name", NO_RESULTS)
@pytest.mark.parametrize("lazy", [False, True])
def test_what_is_no_result(small, tmp_path, name, lazy):
    path = tmp_path / name
    if name == "counts.h5ad":
        small.write_h5ad(path)
    elif name in ("folder", "empty.zarr"):
        path.mkdir()
        (path / ("other.zarr" if name == "folder" else "x")).touch()
    elif not name.startswith(("nowhere", "a\0")):
        path.write_text("" if name == "empty.nc" else "gene,partner\n")
    with pytest.raises(hc.InputError, match=NO_RESULTS[name]) as found:
        hc.load(path, lazy=lazy)
    assert "object at" not in str(found.value)


def test_a_name_that_no_file_can_have(result, tmp_path):
    for name in ("a\0b.nc", "a\0b.zarr"):
        with pytest.raises(hc.InputError, match="no file can have the name"):
            result.save(tmp_path / name)


@pytest.mark.skipif(os.geteuid() == 0, reason="root writes everywhere")
def test_read_only_folder(result, tmp_path):
    tmp_path.chmod(stat.S_IRUSR | stat.S_IXUSR)
    with pytest.raises(PermissionError):
        result.save(tmp_path / "r.nc")


EDITED = {
    "a limit without the other": lambda d: d.drop_vars("ci_upper"),
    "p without q": lambda d: d.drop_vars("q_value"),
    "no estimates": lambda d: d.drop_vars("correlation"),
    "no names of genes": lambda d: d.drop_vars("gene"),
    "genes of one name": lambda d: d.assign_coords(gene=["a"] * d.sizes["gene"]),
    "text in place of estimates": lambda d: d.assign(correlation=d["correlation"].astype(str)),
    "flags that are no bits": lambda d: d.assign(flag=d["flag"].astype(float)),
}


@pytest.mark.sampled(4)
@pytest.mark.parametrize("how", EDITED)
def test_edited_results_are_refused(one, how, tmp_path):
    from hiercorr.results.storage import write_dataset

    edited = EDITED[how](one.dataset)
    with pytest.raises(hc.InputError, match="not a hiercorr result: the dataset has "):
        hc.CorrelationResult(edited)
    path = write_dataset(edited, tmp_path / "r.zarr", overwrite=False)
    with pytest.raises(hc.InputError, match="not a hiercorr result: the dataset has "):
        hc.load(path)


@pytest.mark.slow
@pytest.mark.parametrize("door", ["save", "out"])
def test_a_folder_that_is_no_result_is_never_replaced(small, result, tmp_path, door):
    """Counts, or files of the user, under the name of a result."""

    def write(path):
        if door == "save":
            result.save(path, overwrite=True)
        else:
            fit(small, out=path, overwrite=True)

    usual = ad.settings.zarr_write_format
    ad.settings.zarr_write_format = 3  # its metadata also list nested groups, here a result
    try:
        result.to_anndata(small).write_zarr(tmp_path / "counts.zarr")
    finally:
        ad.settings.zarr_write_format = usual
    (tmp_path / "notes.zarr").mkdir()
    (tmp_path / "notes.zarr" / "notes.txt").write_text("mine")
    for name in ("counts.zarr", "notes.zarr"):
        path = tmp_path / name
        before = sorted(p.relative_to(path) for p in path.rglob("*"))
        with pytest.raises(hc.InputError, match="is not a result of hiercorr"):
            write(path)
        assert sorted(p.relative_to(path) for p in path.rglob("*")) == before
    path = result.save(tmp_path / "r.zarr")
    assert result.save(path, overwrite=True) == path
