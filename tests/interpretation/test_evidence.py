"""Evidence at two levels: classes by hand, refusals, the Bayesian layer."""

import warnings

import numpy as np
import pandas as pd
import pytest
from scipy import stats

import hiercorr as hc
from hiercorr.simulate import simulate_counts
from tests.support import VEHICLE

pytestmark = pytest.mark.filterwarnings(
    "ignore::FutureWarning",
    "ignore::hiercorr.DataWarning",
    "ignore::hiercorr.EstimationWarning",
)


def test_classes_by_hand(within, between):
    e = hc.evidence("FTL", within=within, between=between, q=0.2)
    w, b = within.top("FTL", n=300), between.top("FTL", n=300)
    for gene, row in e.table.iterrows():
        passes = w.loc[gene, "q_value"] < 0.2, b.loc[gene, "q_value"] < 0.2
        same = np.sign(w.loc[gene, "correlation"]) == np.sign(b.loc[gene, "correlation"])
        expected = {
            (1, 1): "both levels" if same else "discordant",
            (1, 0): "cell-state only",
            (0, 1): "between-sample only",
        }
        assert row["evidence"] == expected.get(tuple(int(p) for p in passes), "insufficient")
    assert e.counts().sum() == len(e.table) == 299
    assert e.counts()["both levels"] == len(e.of("both levels"))
    assert "i2" in " ".join(e.table.columns)


def test_refuses(gbm, within, between):
    with pytest.raises(hc.InputError, match="unknown gene 'nothing'"):
        hc.evidence("nothing", within=within, between=between)
    with pytest.raises(hc.InputError, match="needs a result of level 'between'"):
        hc.evidence("FTL", within=within, between=within)
    adata, _ = simulate_counts(4, 60, 8, mean=3, seed=1)
    other = hc.Pseudobulk(adata, "sample", depth="depth", normalization="cpm").fit()
    with pytest.raises(hc.InputError, match="come from different data"):
        hc.evidence("FTL", within=within, between=other)
    few = hc.CSCore(gbm, **VEHICLE, genes=["FTL", "SPP1"]).fit()
    many = hc.Pseudobulk(gbm, **VEHICLE, genes=["FTL", "FTH1"]).fit()
    with pytest.raises(hc.InputError, match="share no gene"):
        hc.evidence("FTL", within=few, between=many)
    with pytest.warns(hc.DataWarning, match="1 gene is in both"):
        hc.evidence("FTL", within=few, between=between)
    both_arms = hc.Pseudobulk(gbm, "sample_id", depth="total_counts").fit()
    with pytest.warns(
        hc.DataWarning, match="rest on different samples: 0 only within, 5 only between"
    ):
        hc.evidence("FTL", within=within, between=both_arms)
    with pytest.raises(hc.InputError, match="name must be one of"):
        hc.evidence("FTL", within=within, between=between).of("strong")


def test_evidence_takes_the_bayesian_layer(fitted):
    _, r, _, adata = fitted
    within, between = (
        hc.CSCore(adata, "sample", depth="depth").fit(),
        hc.Pseudobulk(adata, "sample", depth="depth").fit(),
    )
    table = hc.evidence("gene0", within=within, between=between, bayesian=r).table
    assert table.loc["gene1", "bayesian_correlation"] == pytest.approx(
        float(r.dataset["correlation"][0, 1])
    )


PAIRS = [("FTL", "FTH1"), ("CTSL", "CTSB"), ("SPP1", "FTL"), ("CXCL2", "IL1B"), ("RPS2", "RPLP0")]


@pytest.fixture(scope="module")
def models(gbm):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        genes = list(dict.fromkeys([*np.ravel(PAIRS), *gbm.var_names[:60]]))[:60]
        return hc.CSCore(gbm, **VEHICLE, genes=genes), hc.Pseudobulk(gbm, **VEHICLE, genes=genes)


def by_pair(table, a="gene_a", b="gene_b"):
    table = table.reset_index()
    return table.set_index(pd.Index([frozenset(p) for p in table[[a, b]].to_numpy()]))


@pytest.mark.parametrize("asked", [{"target": ["FTL", "FTH1", "SPP1"]}, {"pairs": PAIRS}])
def test_several_targets_and_lists_are_one_family(models, asked):
    w, b = (m.fit(**asked) for m in models)
    found = hc.evidence(asked.get("target"), within=w, between=b, q=0.2)
    assert found.target is None
    assert found.table.index.is_unique
    table, sides = by_pair(found.table), [by_pair(r.pairs()) for r in (w, b)]
    assert len(table) == len(w) == len(b) == len(set(table.index))
    for level, side in zip(("within", "between"), sides, strict=True):
        for name in ("correlation", "p_value", "q_value"):
            np.testing.assert_allclose(
                table[f"{level}_{name}"].reindex(side.index), side[name], rtol=1e-6
            )
    same = np.sign(table["within_correlation"]) == np.sign(table["between_correlation"])
    passes = [table[f"{level}_q_value"] < 0.2 for level in ("within", "between")]
    names = np.select(
        [passes[0] & passes[1] & same, passes[0] & passes[1], *passes],
        ["both levels", "discordant", "cell-state only", "between-sample only"],
        "insufficient",
    )
    assert table["evidence"].tolist() == names.tolist()
    assert hc.evidence(None, within=w, between=b, q=0.2).table.equals(found.table)


def test_family_is_what_was_asked_for(models):
    """A result with more pairs gets q-values over those of the list, and of the targets."""
    listed, every = models[0].fit(pairs=PAIRS), models[1].fit()
    reversed_pairs = [(b, a) for a, b in PAIRS]
    for r in (every, models[1].fit(target=["FTL", "CTSL", "CXCL2", "RPS2"])):
        table = hc.evidence(None, within=listed, between=r).table
        p = table["between_p_value"].to_numpy()
        np.testing.assert_allclose(table["between_q_value"], stats.false_discovery_control(p))
        assert len(table) == len(PAIRS)
    table = hc.evidence(None, within=listed, between=models[1].fit(pairs=reversed_pairs)).table
    assert len(table) == len(PAIRS)
    targets = ["FTL", "FTH1"]
    some = hc.evidence(targets, within=models[0].fit(), between=every)
    assert some.scope == "2 targets (FTL, FTH1)"
    assert len(some.table) == 59 + 58
    p = some.table["within_p_value"].to_numpy()
    np.testing.assert_allclose(
        some.table["within_q_value"], stats.false_discovery_control(p), rtol=1e-5
    )
    with pytest.raises(hc.InputError, match="share no pair"):
        hc.evidence(None, within=listed, between=models[1].fit(pairs=[("FTL", "CTSB")]))
    with pytest.raises(hc.InputError, match=r"unknown gene 'FTK'.*'FTL'"):
        hc.evidence(["FTK", "FTL"], within=models[0].fit(), between=every)
    with pytest.raises(hc.InputError, match="names 'FTL' twice"):
        hc.evidence(["FTL", "FTL"], within=listed, between=every)


def test_more_pairs_than_memory_are_refused(models, monkeypatch):
    monkeypatch.setattr("hiercorr.interpretation.asked.available_memory", lambda: 10_000)
    w, b = (m.fit() for m in models)
    with pytest.raises(hc.InputError, match="name fewer targets"):
        hc.evidence(None, within=w, between=b)


@pytest.mark.slow
@pytest.mark.usefixtures("undrawn")
def test_evidence_for_pairs_in_text_plot_report_and_on_the_command_line(models, tmp_path):
    from click.testing import CliRunner

    from hiercorr.cli import main
    from hiercorr.reporting import methods_text

    w, b = (m.fit(pairs=PAIRS) for m in models)
    found = hc.evidence(None, within=w, between=b, q=0.2)
    assert "Evidence for 5 listed pairs at q < 0.2" in str(found)
    assert "threshold 0.2, each over these pairs" in methods_text(found)
    ax = hc.plotting.levels(found)
    assert ax.get_title(loc="center").startswith("5 listed pairs")
    assert "SPP1-FTL" in {t.get_text() for t in ax.texts}
    html = hc.report(tmp_path / "r.html", w, b, evidence=found).read_text(encoding="utf-8")
    assert "5 listed pairs at q &lt; 0.2" in html
    files = [str(r.save(tmp_path / f"{k}.nc")) for k, r in enumerate((w, b))]
    run = CliRunner().invoke(main, ["evidence", *files, "-o", str(tmp_path / "e.csv")])
    assert run.exit_code == 0, run.output
    assert "Evidence for 5 listed pairs" in run.output
    assert len(pd.read_csv(tmp_path / "e.csv")) == len(PAIRS)
    run = CliRunner().invoke(main, ["report", *files, "-o", str(tmp_path / "both.html")])
    assert run.exit_code == 0, run.output
    text = (tmp_path / "both.html").read_text(encoding="utf-8")
    assert "Evidence at two levels" in text
    run = CliRunner().invoke(main, ["evidence", *files, "--target", "nothing"])
    assert run.exit_code == 2
    assert "nothing" in run.output


def test_layers_of_different_cells_are_told(gbm):
    options = {"sample": "sample_id", "depth": "total_counts", "genes": 20}
    within = hc.CSCore(gbm, subset={"condition": "ctrl"}, **options).fit(target="FTL")
    between = hc.Pseudobulk(gbm, **options).fit(target="FTL")
    with pytest.warns(hc.DataWarning, match="subset is 'condition: ctrl' within and 'all cells'"):
        hc.evidence("FTL", within=within, between=between)
    again = hc.Pseudobulk(gbm, subset={"condition": "ctrl"}, **options).fit(target="FTL")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        hc.evidence("FTL", within=within, between=again)


def test_small_q_values_are_not_rounded_to_0():
    data = hc.datasets.ipsc_cycle()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        w = hc.CSCore(data, "donor", depth="depth").fit(target="CDK1")
        b = hc.Pseudobulk(data, "donor", depth="depth").fit(target="CDK1")
        found = hc.evidence("CDK1", within=w, between=b)
    smallest = found.table["within_q_value"].min()
    assert smallest < 1e-20
    for text in (str(found), found._repr_html_()):
        assert f"{smallest:.1e}" in text
        assert " 0.0 " not in text
