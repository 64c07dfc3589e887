"""Several targets and listed pairs: the numbers of all pairs, one family, at the cost of what is
asked."""

import warnings

import numpy as np
import pandas as pd
import pytest

import hiercorr as hc
from hiercorr.within.listed_pairs import blocks_of

OPTIONS = {"depth": "total_counts", "genes": 40, "subset": {"condition": "ctrl"}}
FITS = {
    "hierarchical": {},
    "jackknife": {"uncertainty": "jackknife"},
    "pooled": {"estimator": "pooled"},
    "none": {"uncertainty": "none"},
    "bootstrap": {"uncertainty": "bootstrap", "seed": 1, "n_bootstrap": 200},
    "per_sample": {"per_sample": True},
    "equal": {"weights": "equal"},
    "double": {"precision": "double"},
}


@pytest.fixture(autouse=True)
def quiet():
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*targeted panel")
        warnings.simplefilter("ignore", hc.EstimationWarning)
        yield


@pytest.fixture(scope="module")
def model(gbm):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return hc.CSCore(gbm, "sample_id", **OPTIONS)


@pytest.fixture(scope="module")
def asked(model):
    genes = list(model.counts.genes)
    targets = ["FTL", genes[7], "FTH1"]
    pairs = [("FTL", "FTH1"), (genes[3], "FTL"), (genes[10], genes[30]), (genes[31], genes[10])]
    return targets, pairs


def close(a, b, precision=2e-4):
    a, b = a.astype(float), b.astype(float)
    np.testing.assert_array_equal(np.isfinite(a), np.isfinite(b))
    np.testing.assert_allclose(a, b, rtol=precision, atol=precision)


@pytest.mark.parametrize("kind", FITS)
def test_numbers_are_those_of_all_pairs(kind, model, asked):
    targets, pairs = asked
    every = model.fit(**FITS[kind]).dataset
    rows = model.fit(target=targets, **FITS[kind]).dataset
    listed = model.fit(pairs=pairs, **FITS[kind]).dataset
    assert set(rows.data_vars) == set(every.data_vars) == set(listed.data_vars)
    for name in every.data_vars:
        if "partner" not in every[name].dims or name == "q_value":
            continue
        order = list(rows["gene"].values)
        wanted = every[name].sel(gene=targets, partner=order).values
        wanted = wanted.astype(float)
        if name == "correlation":  # of a gene with itself
            np.testing.assert_allclose(rows[name].values, wanted, rtol=1e-4, atol=1e-5)
        close(rows[name].values, wanted)
        ends = [every[name].sel(gene=a, partner=b).values for a, b in pairs]
        close(listed[name].values, np.stack(ends, -1))


def test_distinct_pairs_are_the_family(model, asked):
    targets, pairs = asked
    r, one = model.fit(target=targets), model.fit(target=targets[0])
    table = r.pairs()
    assert len(table) == 3 * 37 + 3 == r.to_frame().shape[0]
    assert not table[["gene_a", "gene_b"]].apply(frozenset, axis=1).duplicated().any()
    p = table["p_value"].to_numpy()
    from scipy import stats

    np.testing.assert_allclose(table["q_value"], stats.false_discovery_control(p), rtol=1e-6)
    assert r.dataset.attrs["q_family"] == "pairs of the targets"
    both = r.dataset["q_value"].sel(target=["FTL", "FTH1"], gene=["FTH1", "FTL"]).values
    assert both[0, 0] == both[1, 1]
    assert one.dataset.attrs["q_family"] == "pairs of the target"
    single = model.fit(target=[targets[0]])
    np.testing.assert_array_equal(single.dataset["q_value"], one.dataset["q_value"])
    listed = model.fit(pairs=pairs)
    q = stats.false_discovery_control(listed.dataset["p_value"].values)
    np.testing.assert_allclose(listed.dataset["q_value"], q, rtol=1e-6)
    assert listed.dataset.attrs["q_family"] == "listed pairs"
    assert r.flag_counts().sum() == sum(len(f.split(",")) for f in table["flag"] if f)


def test_results_know_their_targets(model, asked):
    targets, pairs = asked
    r = model.fit(target=targets)
    assert r.target is None
    assert list(r.targets) == targets
    assert "3 targets (FTL, " in repr(r)
    assert list(r.top("FTH1", n=3).index) == list(r.of("FTH1").top(n=3).index)
    with pytest.raises(hc.InputError, match="pairs of its 3 targets only, not of 'SPP1'"):
        r.top("SPP1")
    with pytest.raises(hc.InputError, match="name a gene: this result contains 3 targets"):
        r.top()
    assert r["SPP1", "FTL"]["correlation"] == r["FTL", "SPP1"]["correlation"]
    assert r.matrix().shape == (3, 40)
    listed = model.fit(pairs=pairs)
    assert listed.target is listed.targets is None
    assert "4 listed pairs" in repr(listed)
    assert list(listed.top("FTL").index) == ["FTH1", pairs[1][0]]
    assert listed["FTH1", "FTL"]["correlation"] > 0.5
    for call, match in (
        (lambda: listed.matrix(), "not a matrix"),
        (lambda: listed.of("FTL"), "and no targets"),
        (lambda: listed["FTH1", "SPP1"], "not among the listed pairs"),
        (lambda: listed.top("SPP1"), "unknown gene of the listed pairs"),
        (lambda: listed.plot.heatmap(), "all pairs, and this result has 4 listed pairs"),
        (lambda: r.plot.heatmap(), "all pairs, and this result has 3 targets"),
        (lambda: hc.modules.find_modules(r), "modules need all pairs"),
        (lambda: listed.adjust(family="gene"), "has a list"),
        (lambda: r.adjust("hierarchical"), "has 3 targets"),
    ):
        with pytest.raises(hc.InputError, match=match):
            call()
    adjusted = r.adjust("holm")
    assert adjusted.dataset.attrs["q_family"] == "pairs of the targets"
    assert listed.adjust("bonferroni").dataset["q_value"].max() <= 1


@pytest.mark.parametrize("end", [".nc", ".zarr"])
def test_they_are_saved_and_loaded(end, model, asked, tmp_path):
    targets, pairs = asked
    for name, r in (("t", model.fit(target=targets)), ("p", model.fit(pairs=pairs))):
        back = hc.load(r.save(tmp_path / f"{name}{end}"))
        pd.testing.assert_frame_equal(back.pairs(), r.pairs())
        assert repr(back) == repr(r)
        assert str(back.summary(n=3)) == str(r.summary(n=3))


@pytest.mark.usefixtures("undrawn")
def test_reports_plots_and_methods(model, asked, tmp_path):
    from hiercorr.reporting import methods_text

    targets, pairs = asked
    r, listed = model.fit(target=targets), model.fit(pairs=pairs)
    text = hc.report(tmp_path / "r.html", r, listed).read_text()
    assert "3 targets" in text
    assert "4 listed pairs" in text
    assert f"between FTL, {targets[1]} and FTH1 and 40 genes" in methods_text(r)
    assert "the distinct pairs with FTL" in methods_text(r)
    assert "4 listed pairs" in methods_text(listed)
    for result in (r, listed):
        for plot in ("volcano", "qq", "p_histogram", "diagnostics"):
            getattr(result.plot, plot)()


def test_streamed_targets(model, asked, tmp_path):
    targets, _ = asked
    r = model.fit(target=targets)
    streamed = model.fit(target=targets, out=tmp_path / "t.zarr")
    for name in ("correlation", "p_value", "ci_lower", "flag"):
        np.testing.assert_array_equal(streamed.dataset[name], r.dataset[name])
    np.testing.assert_allclose(streamed.dataset["q_value"], r.dataset["q_value"], rtol=1e-4)
    assert list(streamed.targets) == targets
    with pytest.raises(hc.InputError, match="listed pairs fit in memory"):
        model.fit(pairs=[("FTL", "FTH1")], out=tmp_path / "p.zarr")


def test_all_genes_as_targets_are_all_pairs(gbm):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        few = hc.CSCore(gbm, "sample_id", **{**OPTIONS, "genes": 15})
        every, rows = few.fit(), few.fit(target=list(few.counts.genes))
    wanted = every.pairs().set_index(["gene_a", "gene_b"])["q_value"]
    found = rows.pairs().set_index(["gene_a", "gene_b"])["q_value"]
    assert len(found) == 15 * 14 / 2
    np.testing.assert_allclose(found.reindex(wanted.index), wanted, rtol=1e-4)


def test_genes_outside_the_selection_are_read_once(model, gbm, monkeypatch):
    from hiercorr.counts import read

    passes = []
    monkeypatch.setattr(read, "blocks", lambda source, f=read.blocks: passes.append(1) or f(source))
    others = [g for g in gbm.var_names if g not in model.counts.genes][:3]
    alone = {"uncertainty": "jackknife"}  # the hierarchical model learns from all genes
    r = model.fit(target=["FTL", *others], **alone)
    assert len(passes) == 1
    assert list(r.targets) == ["FTL", *others]
    assert len(r.genes) == 43
    one = model.fit(target=others[1], **alone)
    close(
        r.dataset["correlation"].sel(target=others[1], gene="FTL").values,
        one.dataset["correlation"].isel(target=0).sel(gene="FTL").values,
        0.01,  # the weights depend on all genes
    )
    listed = model.fit(pairs=[(others[0], "FTL"), (others[1], others[2])])
    assert len(listed.genes) == 43


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"target": ["FTL", "FTL"]}, "names 'FTL' twice"),
        ({"target": []}, "target must be"),
        ({"target": ["FTL", 3]}, "target must be"),
        ({"target": {"FTL": 1}}, "target must be"),
        ({"target": ["FTL", "FLT"]}, "did you mean"),
        ({"target": "FTL", "pairs": [("FTL", "FTH1")]}, "pass one of them"),
        ({"pairs": []}, "pairs is empty"),
        ({"pairs": [("FTL", "FTL")]}, "with itself is not a pair"),
        ({"pairs": [("FTL",)]}, "pairs must be"),
        ({"pairs": ["FT"]}, "pairs must be"),
        ({"pairs": [("FTL", 1)]}, "pairs must be"),
        ({"pairs": 3}, "pairs must be"),
        ({"pairs": [("FTL", "FLT")]}, "did you mean"),
        ({"pairs": pd.DataFrame({"a": ["FTL"]})}, "has the columns 'a'"),
        ({"pairs": "no_such_file.csv"}, "there is no file"),
    ],
)
def test_what_is_no_target_or_pair_is_refused(options, match, model):
    with pytest.raises(hc.InputError, match=match):
        model.fit(**options)


def test_pairs_in_every_form(model, tmp_path):
    pairs = [("FTL", "FTH1"), ("FTL", "SPP1")]
    wanted = model.fit(pairs=pairs).pairs()
    table = pd.DataFrame(pairs, columns=["gene_a", "gene_b"]).assign(distance=1)
    table.to_csv(tmp_path / "p.csv", index=False)
    table.to_csv(tmp_path / "p.tsv", sep="\t", index=False)
    (tmp_path / "p.txt").write_text("FTL FTH1\nFTL SPP1\n")
    (tmp_path / "p.gmt").write_text("FTL\tferritin\tFTH1\tSPP1\n")
    forms = [table, {"FTL": ["FTH1", "SPP1"]}, np.array(pairs), iter(pairs)]
    forms += [tmp_path / f"p.{end}" for end in ("csv", "tsv", "txt", "gmt")]
    for form in [*forms, str(tmp_path / "p.csv")]:
        pd.testing.assert_frame_equal(model.fit(pairs=form).pairs(), wanted)
    (tmp_path / "bad.csv").write_text("FTL,FTH1\nSPP1\n")
    with pytest.raises(hc.InputError, match=r"line 2 of .* does not have two names"):
        model.fit(pairs=tmp_path / "bad.csv")
    with pytest.warns(hc.DataWarning, match="1 pair is listed more than once"):
        twice = model.fit(pairs=[*pairs, ("FTH1", "FTL")])
    pd.testing.assert_frame_equal(twice.pairs(), wanted)


def test_pairs_of_genes_without_counts_are_left_out(gbm):
    other = gbm.copy()
    x = other.X.toarray()
    x[:, other.var_names.get_loc("SPP1")] = 0
    other.X = x
    model = hc.CSCore(other, "sample_id", **{**OPTIONS, "genes": 20})
    with pytest.warns(hc.DataWarning, match="'SPP1': 1 pairs are left out"):
        r = model.fit(pairs=[("FTL", "FTH1"), ("FTL", "SPP1")])
    assert len(r.pairs()) == 1
    with pytest.raises(hc.InputError, match="no pair is left"):
        model.fit(pairs=[("FTL", "SPP1")])


def test_blocks_hold_every_pair_once_and_little_else():
    rng = np.random.default_rng(0)
    for n, m in ((30, 20), (3_000, 4_000), (20_000, 60_000)):
        a, b = rng.integers(0, n, (2, m))
        key = np.unique(np.minimum(a, b) * n + np.maximum(a, b))
        low, high = key // n, key % n
        a, b = low[low != high], high[low != high]
        blocks = blocks_of(a, b, 8)
        seen = np.concatenate([block.at for block in blocks])
        assert np.array_equal(np.sort(seen), np.arange(len(a)))
        for block in blocks:
            left, right = block.left[block.row], block.right[block.column]
            same = (left == a[block.at]) & (right == b[block.at])
            assert (same | ((left == b[block.at]) & (right == a[block.at]))).all()
            entries = len(block.left) * len(block.right)
            assert entries <= max(4 * len(block.at), 65_536)


def test_listed_pairs_of_several_types():
    adata, _ = hc.simulate.simulate_counts(4, 150, 12, mean=3.0, within=0.5, seed=2)
    adata.var["feature_types"] = ["Gene Expression"] * 7 + ["Antibody Capture"] * 5
    names = list(adata.var_names)
    pairs = [
        (names[8], names[1]),
        (names[9], names[10]),
        (names[2], names[3]),
        (names[0], names[11]),
    ]
    for options in ({}, {"depth_adjust": True}):
        model = hc.CSCore(adata, "sample", modalities="all", **options)
        every, listed = model.fit(), model.fit(pairs=pairs)
        for k, (a, b) in enumerate(pairs):
            close(
                listed.dataset["correlation"].values[k],
                every.dataset["correlation"].sel(gene=a, partner=b).values,
            )
    rows = model.fit(target=[names[9], names[7]])
    wanted = every.dataset["se"].sel(gene=[names[9], names[7]], partner=rows.genes)
    close(rows.dataset["se"].values, wanted.values)
    with pytest.raises(hc.InputError, match="features of several types"):
        model.fit(target=[names[0], names[8]])


def test_interrupted_lists_resume(model, asked, tmp_path):
    _, pairs = asked
    wanted = model.fit(pairs=pairs).pairs()
    found = model.fit(pairs=pairs, checkpoint=tmp_path / "c").pairs()
    pd.testing.assert_frame_equal(found, wanted)
    assert not (tmp_path / "c").exists()


def test_targets_on_a_cluster(gbm, model, asked):
    targets, pairs = asked
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        remote = hc.CSCore(gbm, "sample_id", scheduler="threads", **OPTIONS)
        r = remote.fit(target=targets)
    close(r.dataset["se"].values, model.fit(target=targets).dataset["se"].values, 1e-4)
    with pytest.raises(hc.InputError, match="estimated in this process"):
        remote.fit(pairs=pairs)


def one_by_one(fit, targets, pairs, precision=1e-4):
    """Compare several targets and listed pairs of a model with its fits of single targets."""
    rows, listed = fit(target=targets).dataset, fit(pairs=pairs).dataset
    for t in targets:
        one = fit(target=t).dataset
        for name in one.data_vars:
            if "target" in one[name].dims and name != "q_value":
                part = rows[name].sel(target=t).transpose(..., "gene")
                close(
                    part.values, one[name].isel(target=0).sel(gene=rows["gene"]).values, precision
                )
    for k, (a, b) in enumerate(pairs):
        found = listed["correlation"].values[k]
        close(
            found, fit(target=a).dataset["correlation"].isel(target=0).sel(gene=b).values, precision
        )
    assert listed.sizes["pair"] == len(pairs)
    return rows, listed


def test_cell_correlation(gbm, asked):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = hc.CellCorrelation(gbm, "sample_id", **OPTIONS)
    one_by_one(model.fit, *asked)


@pytest.mark.parametrize("method", ["pearson", "spearman", "hc3", "corrected"])
def test_pseudobulk(method, gbm, asked):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = hc.Pseudobulk(
            gbm,
            "sample_id",
            depth="total_counts",
            genes=40,
            formula="~ condition",
            block="patient_id",
        )
    rows, listed = one_by_one(lambda **o: model.fit(method, seed=1, **o), *asked)
    assert "beta" not in rows
    assert listed.attrs["q_family"] == "listed pairs"
    with pytest.raises(hc.InputError, match="regressions on one target"):
        model.fit("ols", target=["FTL", "FTH1"], interaction="condition")


def test_moderation_of_several_targets_is_stated(gbm):
    """Each target has its own prior; the result has their median."""
    from hiercorr.reporting import methods_text

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = hc.Pseudobulk(gbm, "sample_id", depth="total_counts", genes=40)
    targets = ["FTL", "FTH1", "SPP1"]
    alone = [model.fit(target=t).dataset.attrs for t in targets]
    for r in (model.fit(target=targets), model.fit(pairs=[("FTL", "CLU"), ("FTH1", "SPP1")])):
        attrs, text = r.dataset.attrs, methods_text(r)
        assert np.isfinite(attrs["prior_variance"])
        assert "with a median of" in text
        assert "nan" not in text
    several = model.fit(target=targets).dataset.attrs
    for name in ("prior_df", "prior_variance"):
        assert several[name] == pytest.approx(np.median([a[name] for a in alone]))


@pytest.mark.slow
def test_differential_and_decompose(gbm, asked):
    targets, pairs = asked

    def difference(**options):
        return hc.differential(
            gbm,
            "sample_id",
            "condition",
            depth="total_counts",
            genes=40,
            block="patient_id",
            **options,
        )

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        _, listed = one_by_one(difference, targets[:2], pairs[:2])
        assert {"difference", "group_correlation"} <= set(listed.data_vars)
        one_by_one(lambda **o: hc.decompose(gbm, "sample_id", **OPTIONS, **o), targets, pairs)


def test_cell_types(gbm, asked, tmp_path):
    targets, pairs = asked
    other = gbm.copy()
    other.obs["type"] = ["A", "B"] * (other.n_obs // 2)
    for fit, n in (({"target": targets}, 3 * 37 + 3), ({"pairs": pairs}, 4)):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            types = hc.by_cell_type(other, "type", "sample_id", fit=fit, **OPTIONS)
        assert len(types.pairs()) >= 2 * n
        back = hc.load(types.save(tmp_path / f"{n}.zarr"))
        pd.testing.assert_frame_equal(back.pairs(), types.pairs())
        q = types.pairs()["q_value"].to_numpy()
        p = types.pairs()["p_value"].to_numpy()
        from scipy import stats

        np.testing.assert_allclose(q, stats.false_discovery_control(p), rtol=1e-5)


def test_evidence_of_one_of_several_targets(gbm, model, asked):
    targets, _ = asked
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        between = hc.Pseudobulk(gbm, "sample_id", **OPTIONS)
        several = [m.fit(target=targets) for m in (model, between)]
        one = [m.fit(target="FTH1") for m in (model, between)]
    found, wanted = (
        hc.evidence("FTH1", within=w, between=b).table["within_p_value"] for w, b in (several, one)
    )
    np.testing.assert_allclose(found, wanted.reindex(found.index), rtol=1e-6)


def test_command_line(gbm, tmp_path):
    from click.testing import CliRunner

    from hiercorr.cli import main

    gbm.write_h5ad(tmp_path / "g.h5ad")
    (tmp_path / "targets.txt").write_text("FTL\nFTH1\n")
    (tmp_path / "pairs.csv").write_text("gene_a,gene_b\nFTL,FTH1\n")
    start = ["fit", str(tmp_path / "g.h5ad"), "--sample", "sample_id", "--genes", "20"]
    start += ["--depth", "total_counts", "--subset", "condition=ctrl", "--quiet"]
    for more, shape in (
        (["--target", "FTL", "--target", "FTH1"], {"target": 2}),
        (["--target", str(tmp_path / "targets.txt")], {"target": 2}),
        (["--pairs", str(tmp_path / "pairs.csv")], {"pair": 1}),
        (["--model", "pseudobulk", "--pairs", str(tmp_path / "pairs.csv")], {"pair": 1}),
    ):
        out = tmp_path / "r.nc"
        done = CliRunner().invoke(main, [*start, *more, "-o", str(out), "--overwrite"])
        assert done.exit_code == 0, done.output
        sizes = hc.load(out).dataset.sizes
        assert all(sizes[d] == n for d, n in shape.items())


def test_nearby_pairs():
    rng = np.random.default_rng(3)
    n = 300
    start = rng.integers(0, 2_000_000, n)
    var = pd.DataFrame(
        {
            "chrom": rng.choice(["1", "2"], n),
            "start": start,
            "end": start + rng.integers(1, 30_000, n),
            "strand": rng.choice(["+", "-"], n),
            "feature_types": rng.choice(["Gene Expression", "Peaks"], n),
        },
        index=[f"f{k}" for k in range(n)],
    )
    genes, peaks = (var[var["feature_types"] == k] for k in ("Gene Expression", "Peaks"))
    for anchor, strand in (("start", None), ("start", "strand"), ("body", None)):
        found = hc.nearby_pairs(var, 50_000, anchor=anchor, strand=strand)
        wanted = {}
        for a, g in genes.iterrows():
            low, high = g["start"], g["end"]
            if anchor == "start":
                low = high = g["end"] if strand and g["strand"] == "-" else g["start"]
            for b, p in peaks[peaks["chrom"] == g["chrom"]].iterrows():
                gap = max(p["start"] - high, low - p["end"], 0)
                if gap <= 50_000:
                    wanted[a, b] = gap
        assert found.set_index(["gene_a", "gene_b"])["distance"].to_dict() == wanted
    for change, match in (
        ({"chrom": "x"}, "unknown column of var 'x'"),
        ({"kinds": ("Gene Expression", "Guides")}, "unknown type of features 'Guides'"),
        ({"distance": -1}, "distance"),
        ({"anchor": "middle"}, "anchor"),
    ):
        with pytest.raises(hc.InputError, match=match):
            hc.nearby_pairs(var, **change)
    with pytest.raises(hc.InputError, match="do the names of chromosomes agree"):
        hc.nearby_pairs(var.assign(chrom=[f"c{k}" for k in range(n)]))
    with pytest.raises(hc.InputError, match="'start' of feature 'f0' is no position"):
        hc.nearby_pairs(var.assign(start=["?", *start[1:]]))
