"""Zarr folders that could run code or point elsewhere, through every door that reads one."""

import json
import os
import pickle
import shutil

import numpy as np
import pytest
import zarr

import hiercorr as hc
from hiercorr.runtime.zarr_store import GuardedStore, walk
from tests.support import fit

V2 = {"zarr_format": 2, "shape": [2], "chunks": [2], "order": "C", "fill_value": None}
V3 = {
    "zarr_format": 3,
    "node_type": "array",
    "shape": [2],
    "chunk_grid": {"name": "regular", "configuration": {"chunk_shape": [2]}},
    "chunk_key_encoding": {"name": "default", "configuration": {"separator": "/"}},
    "fill_value": 0,
    "attributes": {},
}
BYTES = {"name": "bytes", "configuration": {"endian": "little"}}


def v2(dtype="|O", filters=None, compressor=None):
    return ".zarray", json.dumps(
        {**V2, "dtype": dtype, "filters": filters, "compressor": compressor}
    )


def v3(data_type, *codecs):
    return "zarr.json", json.dumps({**V3, "data_type": data_type, "codecs": list(codecs)})


REFUSED = {
    "pickle": v2(filters=[{"id": "pickle"}]),
    "escaped": (".zarray", v2(filters=[{"id": "pickle"}])[1].replace("pickle", "p\\u0069ckle")),
    "compressor": v2(compressor={"id": "pickle"}),
    "nested": v2(filters=[{"id": "vlen-array", "dtype": "O"}]),
    "object without a codec": v2(),
    "structured object": v2([["a", "<i4"], ["b", "|O"]]),
    "registered by another package": v2("<f4", compressor={"id": "imagecodecs_dill"}),
    "no name": v2("<f4", compressor={"protocol": 5}),
    "v3 codec": v3("int8", {"name": "numcodecs.pickle"}),
    "v3 codec as text": v3("int8", BYTES, "pickle"),
    "v3 shard": v3(
        "int8", {"name": "sharding_indexed", "configuration": {"codecs": [{"name": "pickle"}]}}
    ),
    "v3 object": v3("object", BYTES),
    "v3 object with options": v3({"name": "numpy.object", "configuration": {}}, BYTES),
}


class Attack:
    def __init__(self, marker):
        self.marker = marker

    def __reduce__(self):
        return os.mkdir, (str(self.marker),)


def plant(folder, name, text, marker):
    """Turn an array into one that runs code when it is decoded."""
    for old in folder.iterdir():
        old.unlink() if old.is_file() else shutil.rmtree(old)
    (folder / name).write_text(text)
    chunk = folder / ("0" if name == ".zarray" else "c/0")
    chunk.parent.mkdir(exist_ok=True)
    chunk.write_bytes(pickle.dumps(Attack(marker)))


@pytest.fixture(scope="module")
def data(small, tmp_path_factory):
    path = tmp_path_factory.mktemp("data") / "d.zarr"
    small.write_zarr(path)
    return path


@pytest.fixture(scope="module")
def saved(small, tmp_path_factory):
    path = tmp_path_factory.mktemp("saved") / "r.zarr"
    return fit(small).save(path)


DOORS = {
    "CSCore": lambda p: hc.CSCore(p, "sample"),
    "Pseudobulk": lambda p: hc.Pseudobulk(p, "sample"),
    "aggregate": lambda p: hc.aggregate(p, "sample"),
    "check_design": lambda p: hc.check_design(p, sample="sample"),
    "layer": lambda p: hc.CSCore(p, "sample", layer="X"),
}


@pytest.mark.parametrize("door", DOORS)
@pytest.mark.parametrize("array", ["X", "obs/sample", "var/_index"])
def test_no_code_runs_from_data(data, tmp_path, door, array):
    path, marker = tmp_path / "d.zarr", tmp_path / "ran"
    shutil.copytree(data, path)
    (path / ".zmetadata").unlink(missing_ok=True)
    plant(path / array, *REFUSED["escaped"], marker)
    (path / array / ".zattrs").write_text(
        json.dumps({"encoding-type": "array", "encoding-version": "0.2.0"})
    )
    with pytest.raises(hc.InputError, match="could run code"):
        DOORS[door](path)
    assert not marker.exists()


@pytest.mark.parametrize("lazy", [False, True])
@pytest.mark.parametrize("kind", REFUSED)
@pytest.mark.parametrize("linked", [False, True])
def test_no_code_runs_from_results(saved, tmp_path, kind, lazy, linked):
    path, marker = tmp_path / "r.zarr", tmp_path / "ran"
    shutil.copytree(saved, path)
    for name in (".checksums.json", ".zmetadata"):
        (path / name).unlink()
    attrs = json.loads((path / ".zattrs").read_text())
    del attrs["checksums"]
    (path / ".zattrs").write_text(json.dumps(attrs))
    plant(path / "mean", *REFUSED[kind], marker)
    if linked:
        (path / "mean").rename(tmp_path / "elsewhere")
        (path / "mean").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(hc.InputError, match="could run code"):
        hc.load(path, lazy=lazy)
    assert not marker.exists()


@pytest.mark.parametrize("kind", REFUSED)
def test_every_kind_is_refused_alone_and_consolidated(tmp_path, kind):
    name, text = REFUSED[kind]
    (tmp_path / "x").mkdir()
    (tmp_path / "x" / name).write_text(text)
    with pytest.raises(hc.InputError, match=r"array 'x' .*could run code"):
        GuardedStore(tmp_path).read(f"x/{name}")
    if name == ".zarray":
        document = {"metadata": {"a/x/.zarray": json.loads(text), ".zattrs": {"dtype": "|O"}}}
    else:
        inside = {"metadata": {"a/x": json.loads(text)}}
        document = {"node_type": "group", "consolidated_metadata": inside}
    consolidated = ".zmetadata" if name == ".zarray" else name
    (tmp_path / consolidated).write_text(json.dumps(document))
    with pytest.raises(hc.InputError, match=r"array 'a/x' .*could run code"):
        GuardedStore(tmp_path).read(consolidated)


@pytest.mark.parametrize("zarr_format", [2, 3])
def test_numbers_and_strings_pass(small, tmp_path, zarr_format):
    import anndata

    before = anndata.settings.zarr_write_format
    try:
        anndata.settings.zarr_write_format = zarr_format
        small.write_zarr(tmp_path / "d.zarr")
    finally:
        anndata.settings.zarr_write_format = before
    assert hc.aggregate(tmp_path / "d.zarr", "sample", depth="depth").n_vars == 12


def test_a_chunk_cut_short_is_not_filled_with_foreign_memory(tmp_path):
    group = zarr.open_group(str(tmp_path / "d.zarr"), mode="w", zarr_format=2)
    group.create_array("x", data=np.arange(4000) % 7, chunks=(1000,))
    chunk = tmp_path / "d.zarr" / "x" / "2"
    chunk.write_bytes(chunk.read_bytes()[:-20])
    with pytest.raises(hc.InputError, match="cut short"):
        zarr.open_group(GuardedStore(tmp_path / "d.zarr"), mode="r")["x"][:]


def test_only_files_are_read_and_loops_end(tmp_path):
    os.mkfifo(tmp_path / ".zattrs")
    assert GuardedStore(tmp_path).read(".zattrs") is None
    (tmp_path / "loop").symlink_to(tmp_path)
    assert [k for k in walk(tmp_path) if k.startswith("loop")] == []


def test_the_store_is_read_only(tmp_path):
    zarr.open_group(str(tmp_path / "d.zarr"), mode="w", zarr_format=2)
    store = GuardedStore(tmp_path / "d.zarr")
    group = zarr.open_group(store, mode="r")
    with pytest.raises((ValueError, OSError)):
        group.create_array("x", shape=(2,), dtype="f4")
    assert store == GuardedStore(tmp_path / "d.zarr")
    assert str(tmp_path) in str(store)
