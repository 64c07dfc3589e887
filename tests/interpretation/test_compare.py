"""Results side by side."""

import numpy as np
import pytest

import hiercorr as hc

pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::hiercorr.DataWarning")


def test_compare_table_and_plot(fitted):
    model, r, _, adata = fitted
    results = {"Bayesian": r, "moments": hc.CSCore(adata, "sample", depth="depth").fit()}
    found = hc.compare(results)
    assert found.wide().shape == (6, 2)
    first = found.table.iloc[0]
    assert first["correlation"] == pytest.approx(float(r.dataset["natural_correlation"][0, 1]))
    assert list(found.table["level"].unique()) == ["within", "between"]
    ax = found.plot()
    assert [t.get_text() for t in ax.get_yticklabels()][:2] == [
        "gene0\u2013gene1, within",
        "gene0\u2013gene1, between",
    ]
    drawn = np.sort(
        np.concatenate([line.get_xdata() for line in ax.lines if line.get_label() in results])
    )
    np.testing.assert_allclose(drawn, np.sort(found.table["correlation"]))
    assert len(hc.compare(results, [("gene2", "gene0")]).table) == 3
    with pytest.raises(hc.InputError, match="unknown gene 'gene9'"):
        hc.compare(results, [("gene0", "gene9")])
    many = model.fit_many("gene1", seed=1)
    with pytest.raises(hc.InputError, match="contains the pairs of 'gene1' only"):
        hc.compare({"many": many}, [("gene0", "gene2")])
    with pytest.raises(hc.InputError, match="at least one result"):
        hc.compare({})
