import pandas as pd
import pytest

import hiercorr as hc
from hiercorr.results import table_files
from tests.support import VEHICLE

READERS = {
    ".csv": pd.read_csv,
    ".tsv": lambda p: pd.read_csv(p, sep="\t"),
    ".parquet": pd.read_parquet,
    ".xlsx": pd.read_excel,
}


@pytest.fixture(scope="module")
def result(gbm):
    return hc.CSCore(gbm, genes=15, **VEHICLE).fit()


@pytest.mark.parametrize("kind", table_files.KINDS)
def test_every_format_holds_the_table(result, tmp_path, kind):
    path = result.to_table(tmp_path / f"pairs{kind}", q=0.5)
    read = READERS[kind](path)
    expected = result.pairs(q=0.5)
    assert read["gene_a"].tolist() == expected["gene_a"].tolist()
    pd.testing.assert_series_equal(
        read["correlation"], expected["correlation"], check_dtype=False, rtol=1e-6
    )
    with pytest.raises(FileExistsError, match="overwrite=True"):
        result.to_table(path)
    result.to_table(path, overwrite=True, n=3)
    assert len(READERS[kind](path)) == 3
    assert [p.name for p in tmp_path.iterdir()] == [path.name]


def test_a_failure_leaves_the_old_table(result, tmp_path, monkeypatch):
    path = result.to_table(tmp_path / "pairs.csv")
    before = path.read_bytes()

    def fail(*_, **__):
        raise OSError("disk full")

    monkeypatch.setattr(pd.DataFrame, "to_csv", fail)
    with pytest.raises(OSError, match="disk full"):
        result.to_table(path, overwrite=True)
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["pairs.csv"]


def test_what_cannot_be_written_is_refused(result, tmp_path, monkeypatch):
    with pytest.raises(hc.InputError, match=r"\.csv, \.tsv"):
        result.to_table(tmp_path / "pairs.doc")
    with pytest.raises(hc.InputError, match="no folder"):
        result.to_table(tmp_path / "no" / "pairs.csv")
    monkeypatch.setattr(table_files, "_MAX_ROWS", 5)
    with pytest.raises(hc.InputError, match="105 rows"):
        result.to_table(tmp_path / "pairs.xlsx")
    assert not list(tmp_path.iterdir())


def test_excel_gets_no_formulas_and_every_sheet_a_name(tmp_path):
    table = pd.DataFrame({"r": [0.25, None], "flag": ["", "x\x00y"]}, index=["=1+1", "B"])
    names = ["t", "n" * 40 + "a", "n" * 40 + "b", "a/b", "a:b"]
    path = table_files.write_excel(dict.fromkeys(names, table), tmp_path / "t.xlsx")
    book = pd.read_excel(path, sheet_name=None, index_col=0)
    assert len(book) == 5
    assert book["t"].index[0] == "'=1+1"
    assert book["t"]["flag"].iloc[1] == "xy"
    assert book["t"]["r"].iloc[0] == 0.25


def test_thresholds_apply_to_partners_as_to_pairs(gbm, result, tmp_path):
    target = hc.CSCore(gbm, genes=15, **VEHICLE).fit(target="FTL")
    for r, options in ((target, {}), (result.adjust(family="gene"), {"gene": "FTL"})):
        path = r.to_table(
            tmp_path / "t.csv", overwrite=True, q=0.05, min_correlation=0.3, **options
        )
        table = r.top("FTL", n=14)
        chosen = (table["q_value"] <= 0.05) & (table["correlation"].abs() >= 0.3)
        assert 0 < chosen.sum() < 14
        assert pd.read_csv(path)["gene"].tolist() == table.index[chosen].tolist()
    none = hc.CSCore(gbm, genes=15, **VEHICLE).fit(target="FTL", uncertainty="none")
    with pytest.raises(hc.InputError, match="no q-values"):
        none.to_table(tmp_path / "n.csv", q=0.05)
