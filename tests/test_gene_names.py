"""Genes named by a column of var: every source and every function, against data renamed by hand."""

import warnings

import anndata as ad
import numpy as np
import pandas as pd
import pytest

import hiercorr as hc
from hiercorr import enrichment, modules, planning, plotting
from hiercorr.analysis.plan import make_plan, read_plan
from hiercorr.simulate import simulate_counts
from tests.cli.support import run
from tests.counts.support import DOORS, with_x

pytestmark = pytest.mark.filterwarnings(
    "ignore::hiercorr.EstimationWarning",
    "ignore:(?!.*told apart by their ids).*:hiercorr.DataWarning",
)
GENES = 16
IDS = [f"ENSG{k:011d}" for k in range(GENES)]
SYMBOLS = ["FTL", "CDK1", "TBCE", "TBCE", None, "", *(f"GENE{k}" for k in range(6, GENES))]
NAMES = ["FTL", "CDK1", *(f"TBCE ({i})" for i in IDS[2:4]), *IDS[4:6], *SYMBOLS[6:]]
TARGET, TARGET_ID = "CDK1", IDS[1]
NAMED = {"gene_names": "symbol"}


@pytest.fixture(scope="module")
def data():
    """Cells of 6 libraries of 3 donors; ids as names, symbols in a column."""
    made, _ = simulate_counts(6, 40, GENES, mean=2.0, within=0.4, seed=1)
    code = made.obs["sample"].cat.codes.to_numpy()
    obs = pd.DataFrame(
        {
            "library": (code + 1).astype(str),
            "arm": np.where(code % 2 == 0, "a", "b"),
            "kind": np.where(np.arange(made.n_obs) % 2 == 0, "x", "y"),
        },
        index=[f"AC{i}-{c + 1}" for i, c in enumerate(code)],
    )
    var = pd.DataFrame({"symbol": SYMBOLS, "chromosome": "1", "length": 3.5}, index=IDS)
    return ad.AnnData(made.X, obs=obs, var=var)


@pytest.fixture(scope="module")
def by_hand(data):
    """The same with the names as var_names."""
    other = data.copy()
    other.var_names = NAMES
    return other


def table(result):
    """Return the numbers of a result by gene, and the ids of the genes."""
    partners = result.top(TARGET, n=GENES).drop(columns="flag")
    return partners.dropna(axis=1, how="all"), result.gene_table().get("gene_id")


def sums(samples):
    return samples.to_df(), samples.var.get("gene_id")


def of_posterior(d, o, g):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = hc.BayesianCorrelation(d, "library", [NAMES[0], g, NAMES[7]], **o)
        return model.fit_many(g, seed=1)


# (data, options, target) -> a table of numbers, and the ids of the genes where there are any
CONSUMERS = {
    "CSCore": lambda d, o, g: table(hc.CSCore(d, "library", **o).fit(target=g)),
    "CSCore, one gene more": lambda d, o, g: table(
        hc.CSCore(d, "library", genes=[NAMES[0], IDS[5]], **o).fit(target=g)
    ),
    "cluster": lambda d, o, g: table(
        hc.CSCore(d, "library", scheduler="threads", **o).fit(target=g)
    ),
    "aggregate": lambda d, o, g: sums(hc.aggregate(d, "library", min_counts=1, **o)),
    "Pseudobulk": lambda d, o, g: table(
        hc.Pseudobulk(d, "library", normalization="cpm", min_counts=1, **o).fit(target=g)
    ),
    "corrected": lambda d, o, g: table(
        hc.Pseudobulk(d, "library", normalization="cpm", min_counts=1, **o).fit(
            "corrected", target=g, seed=1
        )
    ),
    "CellCorrelation": lambda d, o, g: table(hc.CellCorrelation(d, "library", **o).fit(target=g)),
    "decompose": lambda d, o, g: table(hc.decompose(d, "library", target=g, **o)),
    "check_design": lambda d, o, g: (
        hc.check_design(d, "library", **o).samples.select_dtypes("number"),
        None,
    ),
    "sum_gene_sets": lambda d, o, g: (
        enrichment.sum_gene_sets(d, {"set": NAMES[6:]}, keep=[g], **o).to_df(),
        None,
    ),
}
MORE = {  # slower, or with columns that a 10x file does not have
    "differential": lambda d, o, g: table(hc.differential(d, "library", "arm", target=g, **o)),
    "by_cell_type": lambda d, o, g: (
        hc.by_cell_type(d, "kind", "library", fit={"target": g}, **o).top(g, n=40).iloc[:, 1:-1],
        None,
    ),
    "BayesianCorrelation": lambda d, o, g: table(of_posterior(d, o, g)),
    "signature": lambda d, o, g: (
        hc.CSCore(d, "library", **o)
        .signature([g, NAMES[0]], weights={g: 2.0, NAMES[0]: 1.0})
        .top(n=GENES)
        .iloc[:, :-1],
        None,
    ),
    "metacells": lambda d, o, g: sums(hc.metacells(d, "library", size=10, seed=1, **o)),
    "CSCore of metacells": lambda d, o, g: table(
        hc.CSCore(hc.metacells(d, "library", size=4, seed=1, **o), "library", depth="depth").fit(
            target=g
        )
    ),
    "metacell_sensitivity": lambda d, o, g: (
        hc.metacell_sensitivity(d, "library", g, [NAMES[0], NAMES[7]], [4], seed=1, **o),
        None,
    ),
    "traps": lambda d, o, g: (hc.traps(d, "library", g, permutations=19, **o).genes, None),
    "pilot": lambda d, o, g: (
        pd.DataFrame(planning.pilot(d, "library", g, NAMES[0], **o)).set_axis(["a", "b"]),
        None,
    ),
    "pair_scatter": lambda d, o, g: (
        drawn(plotting.pair_scatter(d, "library", g, NAMES[0], **o)),
        None,
    ),
    "DESeq2": lambda d, o, g: de(d, o),
}


def drawn(ax):
    points = ax.collections[0].get_offsets()
    return pd.DataFrame(np.asarray(points)).rename(columns={0: ax.get_xlabel(), 1: ax.get_ylabel()})


def de(d, o):
    pytest.importorskip("pydeseq2")
    found = hc.differential_expression(
        d, "library", "~ arm", ("arm", "b", "a"), min_counts=1, **o
    ).drop(columns="flag")
    return found.drop(columns="gene_id", errors="ignore"), found.get("gene_id")


def compare(consumer, named, by_hand, options):
    wanted, _ = consumer(by_hand, {}, TARGET)
    found, gene_id = consumer(named, options, TARGET_ID)
    pd.testing.assert_frame_equal(found, wanted, check_names=False, rtol=1e-4, atol=1e-6)
    if gene_id is not None:
        ids = pd.Series(IDS, NAMES)
        assert gene_id.to_dict() == ids[gene_id.index].to_dict()


@pytest.mark.sampled(20)
@pytest.mark.parametrize("consumer", CONSUMERS)
@pytest.mark.parametrize("door", DOORS)
def test_every_source_through_every_function(door, consumer, data, by_hand, tmp_path):
    options = {**NAMED, **({"layer": "raw"} if door == "raw" else {})}
    if door.startswith("10x"):  # names are symbols there, and the column has ids: exchange them
        data, options = by_hand.copy(), {"gene_names": "gene_ids"}
        data.var["symbol"] = IDS
    compare(CONSUMERS[consumer], DOORS[door](data, tmp_path / "d"), by_hand, options)


@pytest.mark.sampled(11)
@pytest.mark.parametrize("consumer", MORE)
@pytest.mark.parametrize("door", ["AnnData", "h5ad"])
def test_more_functions(door, consumer, data, by_hand, tmp_path):
    compare(MORE[consumer], DOORS[door](data, tmp_path / "d"), by_hand, NAMED)


@pytest.fixture(scope="module")
def fits(data):
    """Results of all pairs, of a target, between samples, and by cell type."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return {
            "all": hc.CSCore(data, "library", **NAMED).fit(),
            "target": hc.CSCore(data, "library", **NAMED).fit(target=TARGET, per_sample=True),
            "between": hc.Pseudobulk(data, "library", min_counts=1, **NAMED).fit(target=TARGET),
            "bayes": of_posterior(data, NAMED, TARGET),
            "types": hc.by_cell_type(data, "kind", "library", genes=IDS[:3], **NAMED),
        }


def ids_of(result):
    return result.gene_table()["gene_id"].to_dict()


@pytest.mark.sampled(5)
@pytest.mark.parametrize("end", [".zarr", ".nc"])
@pytest.mark.parametrize("name", ["all", "target", "between", "bayes", "types"])
def test_saved_results_keep_the_ids(fits, name, end, tmp_path):
    r = fits[name]
    for lazy in (False, True):
        again = hc.load(r.save(tmp_path / f"r{end}", overwrite=True), lazy=lazy)
        if name == "types":
            for kind in ("x", "y"):
                assert ids_of(again.results[kind]) == ids_of(r.results[kind])
                assert ids_of(again.results[kind]) == dict(zip(NAMES[:3], IDS[:3], strict=True))
        else:
            assert ids_of(again) == ids_of(r)
            assert again.dataset.attrs["gene_names"] == "symbol"
            assert again.dataset["gene_id"].dtype == object


def test_cell_types_with_other_genes(data, tmp_path):
    """A gene without counts in one type has its id in the other."""
    x = data.X.toarray()
    x[data.obs["kind"] == "x", 7] = 0
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = hc.by_cell_type(with_x(data, lambda _: x), "kind", "library", **NAMED)
    assert "GENE7" not in found.results["x"].genes
    for end in (".nc", ".zarr"):
        again = hc.load(found.save(tmp_path / f"r{end}"))
        for kind in ("x", "y"):
            assert ids_of(again.results[kind]) == ids_of(found.results[kind])
    by_id = found.top(IDS[7], n=3)
    assert set(by_id["cell_type"]) == {"y"}
    pd.testing.assert_frame_equal(by_id, found.top("GENE7", n=3))
    assert "GENE7" in str(found.summary(IDS[7]))


def test_streamed_results_keep_the_ids(data, fits, tmp_path):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        r = hc.CSCore(data, "library", **NAMED).fit(out=tmp_path / "r.zarr")
    assert ids_of(r) == ids_of(fits["all"]) == dict(zip(NAMES, IDS, strict=True))


def test_results_are_asked_by_name_or_id(fits):
    every, target = fits["all"], fits["target"]
    pd.testing.assert_frame_equal(every.top(TARGET_ID), every.top(TARGET))
    pd.testing.assert_frame_equal(target.top(TARGET_ID), target.top())
    pd.testing.assert_series_equal(every[TARGET_ID, IDS[0]], every[TARGET, "FTL"])
    pd.testing.assert_frame_equal(target.sample_table(IDS[0]), target.sample_table("FTL"))
    assert str(every.summary(TARGET_ID)) == str(every.summary(TARGET))
    drawn = target.plot.forest(IDS[0]).get_title() + target.plot.forest(IDS[0]).get_xlabel()
    assert IDS[0] not in drawn
    assert {"gene_a", "gene_b"} <= set(every.pairs().columns)
    assert set(every.pairs()["gene_a"]) <= set(NAMES)
    assert "gene_id" not in every.to_frame().columns
    graph = every.to_networkx(q=None)
    assert {n: d["gene_id"] for n, d in graph.nodes(data=True)} == ids_of(every)
    found = modules.find_modules(every, "hierarchical", q=None, min_correlation=0.1, min_size=2)
    assert found.genes["gene_id"].to_dict() == ids_of(every)
    with pytest.raises(hc.InputError, match=r"unknown gene 'TBCE'; did you mean 'TBCE \(ENSG"):
        every.top("TBCE")
    with pytest.raises(hc.InputError, match="has pairs of target 'CDK1' only, not of 'FTL'"):
        target.top(IDS[0])


def test_without_names_an_error_says_that_genes_have_ids(data):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        r = hc.CSCore(data, "library").fit()
        with pytest.raises(
            hc.InputError, match=r"unknown gene 'FTL'.*fit it with gene_names=, the"
        ):
            r.top("FTL")
        with pytest.raises(hc.InputError, match=r"are the identifiers of one kind.*gene_names="):
            enrichment.gsea(r, IDS[0], {"set": SYMBOLS[6:]})
    assert "gene_id" not in r.dataset
    assert "gene_names" not in r.dataset.attrs


def test_results_go_back_to_the_data(data, by_hand, fits):
    out = fits["all"].to_anndata(data)
    assert list(out.var_names) == IDS
    other = fits["all"].to_anndata(by_hand)
    assert list(other.var_names) == NAMES
    for key in out.varp:
        np.testing.assert_array_equal(out.varp[key], other.varp[key])
    assert list(out.var["hiercorr_gene_id"]) == IDS
    with pytest.raises(hc.InputError, match="16 genes are not in the AnnData"):
        fits["all"].to_anndata(ad.AnnData(np.ones((2, 2), np.float32)))


def test_gene_sets_of_symbols(data, fits):
    pytest.importorskip("gseapy")
    sets = {"a": NAMES[6:11], "b": NAMES[11:]}
    found = enrichment.enrich(fits["all"], TARGET_ID, sets, partners=IDS[7:10], min_size=2)
    assert found.loc["a", "genes"] == "GENE7, GENE8, GENE9"
    assert found.attrs["without"] == TARGET
    assert enrichment.gsea(fits["all"], TARGET_ID, sets, min_size=2).attrs["gene"] == TARGET


def test_sums_are_analysed_like_cells(data, fits):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        made = hc.aggregate(data, "library", min_counts=1, **NAMED)
        r = hc.Pseudobulk(made, "library").fit(target=TARGET_ID)
        assert ids_of(r) == ids_of(fits["between"])
        pd.testing.assert_frame_equal(r.top(), fits["between"].top())
        with pytest.raises(hc.InputError, match="gene_names choose cells and features: pass them"):
            hc.Pseudobulk(made, "library", **NAMED)


def test_two_results_have_the_same_names(data, fits):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        by_id = hc.Pseudobulk(data, "library", min_counts=1).fit(target=TARGET_ID)
        within = hc.CSCore(data, "library").fit(target=TARGET_ID)
        for levels in ((fits["target"], by_id), (within, fits["between"])):
            with pytest.raises(
                hc.InputError, match=r"name their genes differently: 'within' by .*"
            ):
                hc.evidence(TARGET, *levels)
        with pytest.raises(hc.InputError, match=r"'exploratory' by var_names, e\.g\. 'ENSG0"):
            hc.evidence(TARGET, fits["target"], fits["between"], exploratory=within)
        with pytest.raises(hc.InputError, match=r"'b' by var_names, .*with the same gene_names="):
            hc.compare({"a": fits["target"], "b": by_id})
        for gene in (TARGET, TARGET_ID):
            found = hc.evidence(gene, fits["target"], fits["between"])
            assert (found.target, len(found.table)) == (TARGET, GENES - 1)
        pair = [(TARGET_ID, IDS[0])]
        wide = hc.compare({"a": fits["target"], "b": fits["bayes"]}, pair).wide()
        assert wide.index.droplevel("level").unique().tolist() == [(TARGET, "FTL")]


def test_the_same_names_from_another_column(data, by_hand, fits):
    """Results of data that were renamed by hand belong together with those of the column."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        between = hc.Pseudobulk(by_hand, "library", min_counts=1).fit(target=TARGET)
        assert len(hc.evidence(TARGET, fits["target"], between).table) == GENES - 1


def test_tables_with_ids(fits, tmp_path):
    every, target = fits["all"], fits["target"]
    of = dict(zip(NAMES, IDS, strict=True))
    plain = pd.read_csv(every.to_table(tmp_path / "p.csv"))
    table = pd.read_csv(every.to_table(tmp_path / "a.csv", gene_ids=True))
    assert [c for c in table if c not in plain] == ["gene_id_a", "gene_id_b"]
    for end in "ab":
        assert table[f"gene_id_{end}"].tolist() == [of[g] for g in table[f"gene_{end}"]]
    table = pd.read_csv(target.to_table(tmp_path / "t.csv", gene_ids=True))
    assert list(table.columns[:3]) == ["gene", "gene_id", "correlation"]
    assert table["gene_id"].tolist() == [of[g] for g in table["gene"]]
    for name in ("all", "target", "types"):
        saved = fits[name].save(tmp_path / f"{name}.zarr")
        out = tmp_path / f"{name}.tsv"
        done = run("export", saved, "-o", out, "--gene-ids")
        assert done.exit_code == 0, done.stderr
        found = pd.read_csv(out, sep="\t")
        pairs = [c for c in found if c.startswith("gene_id")]
        assert pairs == (["gene_id"] if name == "target" else ["gene_id_a", "gene_id_b"])
        for column in pairs:
            names = found[column.replace("gene_id", "gene")]
            assert found[column].tolist() == [of[g] for g in names]
    without = hc.CorrelationResult(every.dataset.drop_vars("gene_id"))
    with pytest.raises(hc.InputError, match="gene_ids=True needs a fit with gene_names="):
        without.to_table(tmp_path / "n.csv", gene_ids=True)
    done = run("export", without.save(tmp_path / "n.zarr"), "-o", tmp_path / "n.csv", "--gene-ids")
    assert "--gene-ids needs a fit with --gene-names" in done.stderr


@pytest.mark.usefixtures("undrawn")
def test_report(fits, tmp_path):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        path = hc.report(tmp_path / "r.html", fits["all"], fits["between"], gene=TARGET_ID)
    text = path.read_text()
    assert f"Partners of {TARGET}" in text
    assert f"Partners of {TARGET_ID}" not in text


@pytest.fixture(scope="module")
def saved(data, tmp_path_factory):
    path = tmp_path_factory.mktemp("names") / "d.h5ad"
    data.write_h5ad(path)
    return path


COLUMN = ("--gene-names", "symbol")
ONE = ("--sample", "library", "--target", TARGET, *COLUMN, "--quiet")
AGAIN = ("--target", TARGET)
VERBS = {
    "fit": ("fit", "{data}", *ONE),
    "specification": (
        "fit",
        "{toml}",
        "{data}",
        "--sample",
        "library",
        "--target",
        TARGET,
        "--quiet",
    ),
    "pseudobulk": ("fit", "{data}", "--model", "pseudobulk", *ONE),
    "bayesian": (
        *("fit", "{data}", "--model", "bayesian", "--genes", "FTL,CDK1,GENE7"),
        *("--draws", "100", "--chains", "2", *ONE),
    ),
    "by id": ("fit", "{data}", *("--target", TARGET_ID), *(a for a in ONE if a not in AGAIN)),
    "differential": ("differential", "{data}", "--condition", "arm", *ONE),
    "cell-types": ("cell-types", "{data}", "--types", "kind", *ONE),
    "signature": (
        "signature",
        "{data}",
        "--members",
        f"FTL,{IDS[7]}",
        "--sample",
        "library",
        *COLUMN,
    ),
}


@pytest.mark.sampled(4)
@pytest.mark.parametrize("verb", VERBS)
def test_command_line(verb, saved, tmp_path):
    stated = tmp_path / "model.toml"
    stated.write_text('model = "CSCore"\n[data]\ngene_names = "symbol"\nmin_cells = 5\n')
    given = [a.format(data=saved, toml=stated) for a in VERBS[verb]]
    done = run(*given, "-o", tmp_path / "r.zarr")
    assert done.exit_code == 0, done.stderr
    assert done.stderr.count("told apart by their ids") == 1
    r = hc.load(tmp_path / "r.zarr")
    for one in r.results.values() if verb == "cell-types" else [r]:
        assert one.target == ("signature" if verb == "signature" else TARGET)
        assert ids_of(one).items() <= dict(zip(NAMES, IDS, strict=True)).items()
    if verb in ("fit", "pseudobulk"):
        assert "FTL" in run("show", tmp_path / "r.zarr", "--target", TARGET_ID).stdout


def test_command_line_check_and_power(saved):
    done = run("check", saved, "--sample", "library", *COLUMN)
    assert done.exit_code == 0, done.stderr
    pilot = ("--pilot", saved, "--sample", "library", "--pair", f"{TARGET},{IDS[0]}")
    done = run("power", *pilot, *COLUMN, "--power", "0.8")
    assert done.exit_code == 0, done.stderr
    done = run("power", *COLUMN)
    assert "--gene-names has no effect without --pilot" in done.stderr


def test_command_line_on_results_with_ids(saved, tmp_path):
    done = run("fit", saved, "--sample", "library", "-o", tmp_path / "r.zarr", "--quiet")
    assert done.exit_code == 0, done.stderr
    done = run("show", tmp_path / "r.zarr", "--target", "FTL")
    assert "to use symbols, fit it with --gene-names, the column of var" in done.stderr


@pytest.mark.parametrize("verb", ["fit", "analyze"])
def test_command_line_says_which_column_names_the_genes(verb, saved, tmp_path):
    call = (verb, saved, "--sample", "library", "--target", TARGET, "-o", tmp_path / "r.zarr")
    done = run(*call)
    assert done.exit_code == 2
    assert "'CDK1' is in the column 'symbol' of var" in done.stderr
    assert "pass --gene-names symbol" in done.stderr
    done = run(*call, "--gene-names", "symbols")
    assert (
        "--gene-names symbols: unknown column of var 'symbols'; did you mean 'symbol'?"
        in done.stderr
    )
    done = run(*call[:5], "TBCE", *call[6:], *COLUMN)
    assert "'TBCE' is the name of several genes: name one of them, as 'TBCE (ENSG" in done.stderr


@pytest.mark.slow
@pytest.mark.usefixtures("undrawn")
def test_a_whole_analysis(saved, tmp_path):
    done = run(
        "analyze", saved, *ONE, "--target", TARGET_ID, "--sets", "none", "-o", tmp_path / "a"
    )
    assert done.exit_code == 0, done.stderr
    assert done.stderr.count("told apart by their ids") <= 1
    assert "Genes are named by the column 'symbol' of var." in done.stdout
    folder = tmp_path / "a"
    assert 'gene_names = "symbol"' in (folder / "analysis.toml").read_text()
    assert f'target = ["{TARGET}"]' in (folder / "analysis.toml").read_text()
    options, _ = read_plan(folder / "analysis.toml")
    assert make_plan(options).gene_names == "symbol"
    table = pd.read_csv(next((folder / "tables").glob("*within*.csv")), index_col=0)
    assert table["gene_id"].to_dict() == {
        n: i for n, i in zip(NAMES, IDS, strict=True) if n != TARGET
    }
    assert IDS[1] not in (folder / "report.html").read_text()
