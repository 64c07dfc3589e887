"""Entries of the matrix in memory or in a scratch file: the same fit, and limits on memory."""

import os

import anndata as ad
import pytest
from scipy import sparse

import hiercorr as hc
from tests.support import OPTIONS, assert_same

pytestmark = pytest.mark.filterwarnings(
    "ignore::hiercorr.DataWarning", "ignore::hiercorr.EstimationWarning"
)


@pytest.fixture(scope="module")
def data(forty_genes):
    return forty_genes


@pytest.fixture(scope="module")
def plain(forty_genes_fit):
    return forty_genes_fit


@pytest.mark.parametrize("store", ["h5ad", "zarr"])
@pytest.mark.parametrize("kind", ["csr", "csc"])
def test_files_give_the_numbers_of_memory(data, plain, store, kind, tmp_path):
    copy = data.copy()
    copy.X = sparse.csc_matrix(data.X) if kind == "csc" else sparse.csr_matrix(data.X)
    path = tmp_path / f"counts.{store}"
    getattr(copy, f"write_{store}")(path)
    for source in (path, ad.read_h5ad(path, backed="r")) if store == "h5ad" else (path,):
        found = hc.CSCore(source, scratch=tmp_path, **OPTIONS).fit().dataset
        assert_same(found, plain, exact=True)
    assert [p.name for p in tmp_path.iterdir()] == [path.name]  # the scratch file has no name


def test_entries_beyond_the_limit_are_refused_with_the_way_out(data, tmp_path):
    with pytest.raises(
        hc.InputError, match=r"non-zeros, which would take .* may be used; pass scratch=FOLDER"
    ):
        hc.CSCore(data, memory_limit="10kB", **OPTIONS)
    hc.CSCore(data, memory_limit="10kB", scratch=tmp_path, **OPTIONS)
    with pytest.raises(hc.InputError, match="is not a folder"):
        hc.CSCore(data, scratch=tmp_path / "missing", **OPTIONS)


def test_scratch_on_a_full_disk(data, monkeypatch, tmp_path):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", full)
    with pytest.raises(hc.InputError, match=r"has no room for .*No space left"):
        hc.CSCore(data, scratch=tmp_path, **OPTIONS)
