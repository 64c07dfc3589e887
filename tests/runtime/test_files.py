"""Text written whole or not at all."""

import os

import pytest

import hiercorr as hc
from hiercorr.runtime.files import write_text


def test_text_is_written_and_replaced(tmp_path):
    path = tmp_path / "a.txt"
    assert write_text(path, "first") == path
    write_text(path, "zweite, größere")
    assert path.read_text(encoding="utf-8") == "zweite, größere"
    assert path.stat().st_mode & 0o777 == 0o644
    assert list(tmp_path.iterdir()) == [path]


def test_an_interruption_leaves_the_old_text(tmp_path, monkeypatch):
    path = write_text(tmp_path / "a.txt", "old")

    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "replace", interrupted)
    with pytest.raises(KeyboardInterrupt):
        write_text(path, "new")
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_missing_folder_is_named(tmp_path):
    with pytest.raises(hc.InputError, match="no folder"):
        write_text(tmp_path / "nowhere" / "a.txt", "")


@pytest.fixture(scope="module")
def model():
    made, _ = hc.simulate.simulate_counts(4, 30, 3, mean=4.0, within=0.4, seed=1)
    return hc.CSCore(made, "sample", depth="depth")


WRITERS = {
    "save zarr": lambda m, p: m.fit().save(f"{p}.zarr"),
    "save nc": lambda m, p: m.fit().save(f"{p}.nc"),
    "out": lambda m, p: m.fit(out=f"{p}.zarr"),
    "csv": lambda m, p: m.fit().to_table(f"{p}.csv"),
    "xlsx": lambda m, p: m.fit().to_table(f"{p}.xlsx"),
    "report": lambda m, p: hc.report(f"{p}.html", m.fit()),
    "graphml": lambda m, p: hc.modules.write_graphml(m.fit(), f"{p}.graphml"),
}
READERS = {
    "load": lambda p: hc.load(f"{p}.nc"),
    "load zarr": lambda p: hc.load(f"{p}.zarr"),
    "counts": lambda p: hc.CSCore(f"{p}.h5ad", "sample"),
    "sets": lambda p: hc.datasets.read_gmt(p),
    "priors": lambda p: hc.BayesianCorrelation(
        hc.datasets.ipsc_cycle(), "donor", depth="depth", priors=p
    ),
    "specification": lambda p: hc.specification.read_specification(p),
    "scratch": lambda p: hc.CSCore(
        hc.datasets.ipsc_cycle(), "donor", depth="depth", genes=5, scratch=p
    ),
}
LONG = {"one name": "x" * 300, "umlauts": "ü" * 130, "many folders": "/".join(["d" * 200] * 30)}
quiet = pytest.mark.filterwarnings("ignore")


@quiet
@pytest.mark.parametrize("long", LONG)
@pytest.mark.parametrize("door", WRITERS)
@pytest.mark.usefixtures("undrawn")
def test_names_that_no_file_can_have(model, tmp_path, door, long):
    path = tmp_path / LONG[long]
    with pytest.raises(hc.InputError) as caught:
        WRITERS[door](model, path)
    assert str(path) in str(caught.value)
    assert not list(tmp_path.iterdir())


@pytest.mark.sampled(7)
@quiet
@pytest.mark.parametrize("door", WRITERS)
def test_the_longest_names(model, tmp_path, door):
    """Drafts have longer names than what they become."""
    path = tmp_path / ("x" * (255 - len(".graphml")))
    WRITERS[door](model, path)
    (written,) = tmp_path.iterdir()
    assert written.name.startswith(path.name)


@quiet
@pytest.mark.skipif(not os.path.isdir("/proc/self"), reason="no such file system")
@pytest.mark.parametrize("door", WRITERS)
def test_places_where_nothing_can_be_written(model, door):
    with pytest.raises(OSError, match=r"'/proc/x\.\w+'|folder '/proc'") as caught:
        WRITERS[door](model, "/proc/x")
    assert "draft" not in str(caught.value)


@quiet
@pytest.mark.parametrize("long", LONG)
@pytest.mark.parametrize("door", READERS)
def test_names_that_are_too_long_to_be_read(tmp_path, door, long):
    with pytest.raises(hc.InputError, match=r"no such|not a folder|there is no|unknown model"):
        READERS[door](str(tmp_path / LONG[long]))


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="pipes")
def test_pipes_are_not_read(tmp_path):
    """Reading one would wait for ever."""
    for name, door in (("a.nc", hc.load), ("a.h5ad", lambda p: hc.CSCore(p, "sample"))):
        os.mkfifo(tmp_path / name)
        with pytest.raises(hc.InputError, match="a pipe or a device"):
            door(tmp_path / name)


@quiet
@pytest.mark.parametrize("suffix", [".zarr", ".nc"])
def test_links_to_nothing_are_replaced(model, tmp_path, suffix):
    path = tmp_path / f"a{suffix}"
    path.symlink_to(tmp_path / "nowhere")
    with pytest.raises(FileExistsError):
        model.fit().save(path)
    model.fit().save(path, overwrite=True)
    assert len(hc.load(path)) == 3
    assert [p.name for p in tmp_path.iterdir()] == [path.name]


def test_members_may_be_a_long_list():
    from hiercorr.cli.options import members_of

    genes = [f"GENE{k}" for k in range(500)]
    assert members_of(",".join(genes)) == genes
