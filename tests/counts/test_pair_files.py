"""Files with lists of pairs: marks, separators, headers, and lines that are not pairs."""

import numpy as np
import pytest

from hiercorr.counts.pair_files import read_pairs
from hiercorr.counts.targets import header_hint
from hiercorr.errors import InputError


@pytest.mark.parametrize(
    "text",
    [
        "\ufeffgene_a,gene_b\nA,B\nC,D\n",
        "gene_a;gene_b\nA;B\nC;D\n",
        "A;B\n\nC;D\n",
        "ligand,receptor\nA,B\nC,D\n",
        "score,Receptor,Ligand\n1,B,A\n2,D,C\n",
        "A\tB\nC\tD\n",
    ],
)
def test_layouts(tmp_path, text):
    (tmp_path / "p.csv").write_text(text, encoding="utf-8")
    assert read_pairs(tmp_path / "p.csv").to_numpy().tolist() == [["A", "B"], ["C", "D"]]


@pytest.mark.parametrize("text", ["A B\nC D\n", "A;B\nC;D\n", "A,B\nC,D\n", "A, B\tx\nC\tD\n"])
def test_other_texts(tmp_path, text):
    (tmp_path / "p.txt").write_text(text)
    assert read_pairs(tmp_path / "p.txt")["gene_b"].tolist()[1] == "D"


@pytest.mark.parametrize("bad", ["E", "E,", ",E"])
def test_bad_line_is_named(tmp_path, bad):
    (tmp_path / "p.csv").write_text(f"gene_a,gene_b\n\nA,B\n{bad}\nC,D\n")
    with pytest.raises(InputError, match=r"line 4 of .* does not have two names: '[E,]+'"):
        read_pairs(tmp_path / "p.csv")


def test_a_header_with_other_names_is_told():
    names = ["Gene_A", "Gene_B", "A", "B"]
    assert "looks like the header" in header_hint(names, np.array([False, False, True, True]))
    assert not header_hint(names, np.array([False, True, True, True]))
    assert not header_hint(names, np.zeros(4, bool))
