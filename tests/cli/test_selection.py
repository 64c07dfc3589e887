"""Cells chosen on the command line, results of cell types, and messages in its own words."""

import anndata as ad
import numpy as np
import pytest

import hiercorr as hc
from hiercorr.cli.options import members_of, sample_of, subset_of
from tests.cli.support import run


@pytest.fixture(scope="module")
def typed(path, tmp_path_factory):
    adata = ad.read_h5ad(path)
    k = np.arange(adata.n_obs)
    adata.obs["type"] = np.array(["CD4", "CD8", "B"])[k % 3]
    adata.obs["batch"] = k % 2 + 1
    adata.obs["score"] = (k % 4) / 2
    adata.obs["flag"] = k % 5 > 0
    adata.obs["donor"] = adata.obs["sample"].astype(str).to_numpy()
    adata.obs["arm"] = np.where(k % 2 == 0, "x", "y")
    where = tmp_path_factory.mktemp("typed") / "t.h5ad"
    adata.write_h5ad(where)
    return where


OPTIONS = ("--sample", "sample", "--depth", "depth", "--quiet", "--min-cells", "5")


def cells_of(typed, tmp_path, *chosen):
    out = tmp_path / f"r{len(list(tmp_path.iterdir()))}.zarr"
    done = run("fit", typed, *OPTIONS, "--target", "gene0", *chosen, "-o", out)
    assert done.exit_code == 0, done.output
    return hc.load(out).dataset.attrs["n_cells"]


@pytest.mark.slow
def test_values_of_one_column_add_up_and_columns_restrict(typed, tmp_path):
    obs = ad.read_h5ad(typed).obs
    for chosen, wanted in (
        (("--cell-type", "type=CD4"), obs["type"] == "CD4"),
        (("--cell-type", "type=CD4", "--cell-type", "type=CD8"), obs["type"] != "B"),
        (
            ("--subset", "type=CD4", "--subset", "batch=1"),
            (obs["type"] == "CD4") & (obs["batch"] == 1),
        ),
        (("--subset", "batch=2"), obs["batch"] == 2),
        (("--subset", "score=0.5", "--subset", "score=1"), obs["score"].isin([0.5, 1])),
        (("--subset", "flag=True"), obs["flag"]),
        (("--subset", "flag=false"), ~obs["flag"]),
    ):
        assert cells_of(typed, tmp_path, *chosen) == wanted.sum(), chosen


def test_parsing():
    assert subset_of([]) is None
    assert subset_of(["a=x", "b=1=2", "a=y", "a=x"]) == {"a": ["x", "y"], "b": "1=2"}
    assert sample_of(()) is None
    assert sample_of(("a",)) == "a"
    assert sample_of(("a", "b")) == ("a", "b")
    with pytest.raises(hc.InputError, match="3 times"):
        sample_of(("a", "b", "c"))
    with pytest.raises(hc.InputError, match="COLUMN=VALUE"):
        subset_of(["type"])


def test_two_columns_name_the_samples(typed, tmp_path):
    given = ("--sample", "donor", "--sample", "arm", "--depth", "depth", "--target", "gene0")
    done = run("fit", typed, *given, "--quiet", "-o", tmp_path / "r.zarr")
    assert done.exit_code == 0, done.output
    assert list(hc.load(tmp_path / "r.zarr").dataset["sample"].values[:2]) == ["s1|x", "s1|y"]


def test_members_that_are_no_file(tmp_path):
    with pytest.raises(hc.InputError, match="neither a file nor several genes"):
        members_of(str(tmp_path / "genes.txt"))
    (tmp_path / "genes.txt").write_text("a\nb\n")
    assert members_of(str(tmp_path / "genes.txt")) == members_of("a, b") == ["a", "b"]


@pytest.mark.sampled(4)
@pytest.mark.parametrize("suffix", ["zarr", "nc"])
@pytest.mark.parametrize("chosen", [("--target", "gene0"), ()])
@pytest.mark.usefixtures("undrawn")
def test_cell_types_are_loaded_printed_and_reported(typed, tmp_path, suffix, chosen):
    out = tmp_path / f"ct.{suffix}"
    done = run("cell-types", typed, *OPTIONS[:4], "--types", "type", *chosen, "-o", out)
    assert done.exit_code == 0, done.output
    back = hc.load(out)
    assert isinstance(back, hc.CellTypes)
    assert list(back) == ["B", "CD4", "CD8"]
    import warnings

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        made = hc.by_cell_type(
            typed, "type", "sample", depth="depth", fit={"target": "gene0"} if chosen else {}
        )
    for name, one in made.items():
        same = back[name].dataset.drop_attrs()
        assert same.equals(one.dataset.drop_attrs()[list(same.data_vars)]), name
        attrs = back[name].dataset.attrs
        assert {k: v for k, v in attrs.items() if k != "created"} == {
            k: v for k, v in one.dataset.attrs.items() if k != "created"
        }
    assert repr(back) == repr(made)
    assert back.pairs(n=5).equals(made.pairs(n=5))
    assert back.top("gene0", 3).equals(made.top("gene0", 3))
    assert "gene0" in str(back.summary("gene0"))
    assert "<table" in back._repr_html_()
    assert back.save(tmp_path / f"again.{suffix}").exists()
    if suffix == "zarr":
        done = run("report", out, "-o", tmp_path / "r.html")
        assert done.exit_code == 0, done.output
        html = (tmp_path / "r.html").read_text()
        assert all(f"type: {t}" in html for t in back)


def test_messages_are_in_options(typed, tmp_path):
    out = tmp_path / "r.zarr"
    out.mkdir()
    data = (typed, *OPTIONS[:4])
    for arguments, text, never in (
        (("fit", *data, "-o", out), "pass --overwrite to replace it", "overwrite="),
        (
            ("fit", *data, "--min-cells", "70", "-o", tmp_path / "s.zarr"),
            "lower --min-cells or choose other cells",
            "min_cells=",
        ),
        (("fit", *data, "--genes", "gene0,nope", "-o", tmp_path / "s.zarr"), "unknown gene", "="),
        (("report", typed, "-o", tmp_path / "r.html"), "is not a result of hiercorr", "unknown)"),
        (("report", out, "-o", tmp_path / "r.pdf"), "", ""),
    ):
        done = run(*arguments)
        assert done.exit_code == 2, arguments
        assert text in done.output
        assert not never or never not in done.output


def test_a_report_is_html(typed, tmp_path):
    out = tmp_path / "r.zarr"
    run("fit", typed, *OPTIONS, "--target", "gene0", "-o", out)
    done = run("report", out, "-o", tmp_path / "r.pdf")
    assert done.exit_code == 2
    assert "must end in .html" in done.output
    assert not (tmp_path / "r.pdf").exists()
