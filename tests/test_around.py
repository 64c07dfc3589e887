"""DesignMatrix advice, traps, evidence, enrichment, modules."""

import json
import shutil
import subprocess
import warnings

import networkx as nx
import numpy as np
import pandas as pd
import pytest
from scipy import stats

import hiercorr as hc
from hiercorr.enrichment import enrich, gene_sets, gsea, read_gmt, sum_gene_sets
from hiercorr.modules import find_modules, write_graphml
from hiercorr.reporting.methods_text import citations, methods_text
from hiercorr.simulate import simulate_counts

VEHICLE = {"sample": "sample_id", "depth": "total_counts", "subset": {"condition": "ctrl"}}
pytestmark = pytest.mark.filterwarnings(
    "ignore::hiercorr.DataWarning", "ignore::hiercorr.EstimationWarning"
)


@pytest.fixture(scope="module")
def within(gbm):
    return hc.CSCore(gbm, **VEHICLE).fit(per_sample=True)


@pytest.fixture(scope="module")
def between(gbm):
    return hc.Pseudobulk(gbm, **VEHICLE).fit()


class TestDesign:
    def test_measured_share_and_conditions(self):
        adata, truth = simulate_counts(10, 200, 30, mean=2.0, between_sd=0.5, within_sd=0.5, seed=1)
        d = hc.check_design(adata, "sample", depth="depth", main_claim=True)
        mu = truth["mu"].values
        between = mu.var(0) / mu.mean(0) ** 2
        expected = np.median(
            between / (between + np.expm1(0.25) * (mu**2).mean(0) / mu.mean(0) ** 2)
        )
        assert d.facts["variance_share"] == pytest.approx(expected, abs=0.08)
        assert d.facts["effective_cells"] == pytest.approx(2000 / d.facts["design_effect"])
        assert d.conditions["holds"].tolist() == [True, True, True, True, None]
        assert "Pseudobulk(...).fit() between samples for the main claim" in d.recommendation
        assert "pass review= to say" in str(d)
        assert "<table" in d._repr_html_()
        assert d.table().loc["n_samples", "value"] == 10

    def test_groups_formula_and_confounding(self, gbm):
        kang = hc.datasets.kang_pbmc()
        d = hc.check_design(
            kang,
            "sample_id",
            cell_type="cell_type",
            formula="~ donor",
            depth="total_counts",
            min_cells=20,
        )
        assert d.groups.loc["stim107", "CD8 T cells"] == 15
        assert any("fewer than 20 cells" in r for r in d.reasons)
        assert d.recommendation.startswith("explore only")
        d = hc.check_design(gbm, "sample_id", formula="~ condition", depth="total_counts")
        assert any("'condition' cannot be told from those of 'treatment'" in p for p in d.problems)
        d = hc.check_design(gbm, "sample_id", formula="~ condition + nothing", depth="total_counts")
        assert "unknown column in the formula 'nothing'" in d.problems[0]
        d = hc.check_design(
            gbm, "sample_id", formula="~ patient_id * condition", depth="total_counts"
        )
        assert "needs at least 12 samples" in d.problems[0]


def test_traps_show_what_was_put_in():
    """Samples that differ in mean, no relation within them: the shuffle changes nothing, samples as units find nothing."""
    between = np.full((25, 25), 0.9) + 0.1 * np.eye(25)
    adata, _ = simulate_counts(8, 200, 25, mean=2.0, between=between, between_sd=0.6, seed=3)
    t = hc.traps(adata, "sample", "gene0", depth="depth")
    assert t.summary["called_cells"] > 15
    assert t.summary["called_shuffled"] > 15
    assert t.summary["called_within"] <= 2
    assert t.genes["zeros"].median() == pytest.approx(t.genes["zeros_expected"].median(), rel=0.05)
    assert abs(t.summary["depth_normalised"]) < t.summary["depth_raw"]
    assert t.genes.loc["gene1", "p_between"] >= 1e-3
    assert "Traps for gene0" in str(t)
    with pytest.raises(hc.InputError, match="needs 3 of them"):
        hc.traps(adata, "sample", "gene0", depth="depth", subset={"sample": ["s1", "s2"]})


class TestEvidence:
    def test_classes_by_hand(self, within, between):
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

    def test_refuses(self, gbm, within, between):
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
        with pytest.warns(hc.DataWarning, match="1 genes are in both"):
            hc.evidence("FTL", within=few, between=between)
        both_arms = hc.Pseudobulk(gbm, "sample_id", depth="total_counts").fit()
        with pytest.warns(
            hc.DataWarning, match="rest on different samples: 0 only within, 5 only between"
        ):
            hc.evidence("FTL", within=within, between=both_arms)
        with pytest.raises(hc.InputError, match="class must be one of"):
            hc.evidence("FTL", within=within, between=between).of("strong")


class TestEnrichment:
    def test_equals_the_hypergeometric(self, within):
        table = enrich(within, "FTL", direction="positive")
        top = within.top("FTL", n=300)
        partners = set(top.index[(top["q_value"] < 0.05) & (top["correlation"] > 0)])
        background = set(within.genes) - {"FTL"}
        for name, row in table.iterrows():
            genes = set(hc.datasets.hallmark()[name]) & background
            assert (row["size"], row["overlap"]) == (len(genes), len(genes & partners))
            expected = stats.hypergeom.sf(
                row["overlap"] - 1, len(background), len(genes), len(partners)
            )
            assert row["p_value"] == pytest.approx(expected)
        np.testing.assert_allclose(
            table["q_value"], stats.false_discovery_control(table["p_value"])
        )

    def test_gsea_equals_gseapy(self, within):
        import gseapy

        found = gsea(within, "FTL", permutations=100, seed=3)
        row = within.top("FTL", n=300)["statistic"].dropna()
        sets = {k: [g for g in v if g in row.index] for k, v in hc.datasets.hallmark().items()}
        direct = gseapy.prerank(
            rnk=row.sort_values(ascending=False),
            gene_sets=sets,
            min_size=5,
            max_size=500,
            permutation_num=100,
            seed=3,
            threads=1,
            outdir=None,
            no_plot=True,
            verbose=False,
        ).res2d.set_index("Term")
        np.testing.assert_allclose(found["es"], direct.loc[found.index, "ES"].astype(float))
        assert found["p_value"].min() >= 1 / 101

    def test_a_planted_set_is_found(self):
        adata, _ = simulate_counts(8, 250, 40, mean=2.0, within=_block(40, 8, 0.6), seed=2)
        r = hc.CSCore(adata, "sample", depth="depth").fit(target="gene0")
        names = [f"gene{j}" for j in range(40)]
        sets = {"planted": names[1:8], "other": names[15:25]}
        assert (
            enrich(r, sets=sets).loc["planted", "p_value"]
            < 1e-4
            < enrich(r, sets=sets).loc["other", "p_value"]
        )
        assert gsea(r, sets=sets).index[0] == "planted"
        summed = sum_gene_sets(
            adata, {"planted": names[:8], "other": names[15:25]}, keep=["gene0"], depth="depth"
        )
        x = adata.X.toarray()
        np.testing.assert_array_equal(
            summed.X.toarray(), np.stack([x[:, 0], x[:, 1:8].sum(1), x[:, 15:25].sum(1)], 1)
        )
        score = hc.CSCore(summed, "sample", depth="hiercorr_depth").fit(target="gene0").top()
        assert score.index[0] == "planted"
        assert score.loc["planted", "ci_lower"] > 0.3
        pb = hc.Pseudobulk(summed, "sample", depth="hiercorr_depth", normalization="cpm").fit(
            target="gene0"
        )
        assert set(pb.genes) == {"gene0", "planted", "other"}

    def test_partners_given(self, within):
        table = enrich(
            within,
            partners=["CTSB", "CTSD", "CTSL"],
            sets={"cathepsins": ["CTSB", "CTSD", "CTSL", "CD14", "CTSS"]},
            min_size=2,
        )
        assert table.loc["cathepsins", "overlap"] == 3
        with pytest.raises(hc.InputError, match="unknown gene among partners 'nothing'"):
            enrich(within, partners=["nothing"])

    @pytest.mark.parametrize(
        ("text", "match"),
        [
            ("a\tb\tG1\nc\td\n", r"line 2 of 's.gmt' is not"),
            ("a\tb\tG1\na\tb\tG2\n", "line 2 of 's.gmt' repeats the set 'a'"),
            ("\n", "holds no gene set"),
        ],
    )
    def test_malformed_gmt(self, tmp_path, text, match):
        path = tmp_path / "s.gmt"
        path.write_text(text)
        with pytest.raises(hc.InputError, match=match):
            read_gmt(path)

    def test_sets_that_cannot_serve(self, within, tmp_path):
        with pytest.raises(hc.InputError, match="are the identifiers of one kind"):
            enrich(within, "FTL", sets={"ensembl": ["ENSG01", "ENSG02"]})
        with pytest.raises(hc.InputError, match="is one string"):
            gene_sets({"a": "FTL"})
        with pytest.raises(hc.InputError, match="no such file"):
            gene_sets(tmp_path / "nothing.gmt")
        with pytest.raises(hc.InputError, match="no gene is a partner"):
            enrich(within, "FTL", q=1e-12)
        assert gene_sets({"a": ["x", "x", "y"]}) == {"a": ["x", "y"]}


def _block(n, size, r):
    out = np.eye(n)
    out[:size, :size] = r
    np.fill_diagonal(out, 1)
    return out


@pytest.fixture(scope="module")
def planted():
    m = np.eye(30)
    for k, size in ((0, 10), (10, 7)):
        m[k : k + size, k : k + size] = 0.6
    np.fill_diagonal(m, 1)
    adata, _ = simulate_counts(6, 300, 30, mean=2.0, within=m, seed=5)
    return adata, hc.CSCore(adata, "sample", depth="depth").fit()


class TestModules:
    @pytest.mark.parametrize("method", ["leiden", "hierarchical"])
    def test_planted_modules_are_found_and_stable(self, planted, method):
        adata, r = planted

        def without(s):
            return hc.CSCore(
                adata, "sample", depth="depth", subset=(adata.obs["sample"] != s).to_numpy()
            ).fit()

        found = find_modules(r, method, min_correlation=0.3, without=without)
        assert set(found.of(1)) == {f"gene{j}" for j in range(10)}
        assert set(found.of(2)) == {f"gene{j}" for j in range(10, 17)}
        assert (found.table.loc[[1, 2], "stability"] > 0.9).all()
        assert (found.genes.loc[[f"gene{j}" for j in range(17, 30)], "module"] == 0).all()
        again = find_modules(r, method, min_correlation=0.3)
        pd.testing.assert_frame_equal(found.genes, again.genes)

    def test_number_of_modules(self, planted):
        assert (
            find_modules(planted[1], "hierarchical", q=None, n_modules=2, min_size=2)
            .genes["module"]
            .max()
            <= 2
        )

    def test_graphml(self, planted, tmp_path):
        modules = find_modules(planted[1], min_correlation=0.3)
        graph = nx.read_graphml(
            write_graphml(planted[1], tmp_path / "g.graphml", min_correlation=0.3, modules=modules)
        )
        assert graph.nodes["gene0"]["module"] == 1
        assert graph.has_edge("gene0", "gene1")
        table = planted[1].pairs(q=0.05, min_correlation=0.3)
        assert graph.number_of_edges() == len(table)

    @pytest.mark.parametrize(
        ("options", "match"),
        [
            ({"method": "kmeans"}, "method must be one of"),
            ({"min_correlation": 0.99}, "nothing to group"),
        ],
    )
    def test_bad(self, planted, options, match):
        with pytest.raises(hc.InputError, match=match):
            find_modules(planted[1], **options)

    def test_needs_all_pairs(self, planted):
        r = hc.CSCore(planted[0], "sample", depth="depth").fit(target="gene0")
        with pytest.raises(hc.InputError, match="modules need all pairs"):
            find_modules(r)
        with pytest.raises(hc.InputError, match="there is no module 99"):
            find_modules(planted[1]).of(99)


class TestReport:
    def test_whole_chain(self, gbm, within, between, tmp_path):
        e = hc.evidence("FTL", within=within, between=between)
        cells = hc.CellCorrelation(gbm, **VEHICLE).fit(target="FTL")
        path = hc.report(
            tmp_path / "r.html",
            within,
            between,
            cells,
            evidence=e,
            design=hc.check_design(gbm, **VEHICLE),
            gene="FTL",
            traps=hc.traps(gbm, target="FTL", **VEHICLE),
            enrichment=enrich(within, "FTL", direction="positive"),
        )
        text = path.read_text()
        for part in (
            "Design",
            "Traps",
            "Evidence at two levels",
            "Enrichment",
            "Methods",
            "Provenance",
            "Robinson",
            "Su et al.",
        ):
            assert part in text
        assert text.count("data:image/png") > 12
        assert 'class="exploratory"' in text
        assert "http" not in text.replace("http-equiv", "").split("<style>")[0]
        assert 'src="http' not in text
        assert list(tmp_path.iterdir()) == [path]

    def test_sorts_and_searches_in_a_browser(self, within, tmp_path):
        browser = shutil.which("chromium") or shutil.which("google-chrome")
        if browser is None:
            pytest.skip("no browser")
        path = hc.report(tmp_path / "r.html", within, gene="FTL", n=30)
        script = """<script>
          const table = document.getElementById("result0"), heads = table.tHead.rows[0].cells;
          heads[1].click(); const up = [...table.tBodies[0].rows].map(r => Number(r.cells[1].dataset.value));
          heads[1].click(); const down = [...table.tBodies[0].rows].map(r => Number(r.cells[1].dataset.value));
          const box = document.querySelector('[data-table="result0"]'); box.value = "FTH1"; box.dispatchEvent(new Event("input"));
          const left = [...table.tBodies[0].rows].filter(r => !r.hidden).map(r => r.cells[0].textContent);
          document.body.innerHTML = "<pre>" + JSON.stringify({up, down, left}) + "</pre>";
        </script></body>"""
        path.write_text(path.read_text().replace("</body>", script))
        flags = [
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            f"--user-data-dir={tmp_path / 'p'}",
            "--dump-dom",
        ]
        done = subprocess.run(
            [browser, *flags, path.as_uri()],
            capture_output=True,
            text=True,
            timeout=120,
        )
        found = json.loads(done.stdout.split("<pre>")[1].split("</pre>")[0])
        assert found["up"] == sorted(found["up"])
        assert found["down"] == sorted(found["down"], reverse=True)
        assert found["left"] == ["FTH1"]

    def test_is_usable_without_a_mouse_and_on_paper(self, within, tmp_path):
        """What screen readers, keyboards and printers need, read from the page itself."""
        from html.parser import HTMLParser

        text = hc.report(tmp_path / "r.html", within, gene="FTL", n=30).read_text()
        found: dict[str, list[dict]] = {}

        class Page(HTMLParser):
            def handle_starttag(self, tag, attrs):
                found.setdefault(tag, []).append(dict(attrs))

        Page().feed(text)
        assert found["html"] == [{"lang": "en"}]
        assert len(found["h1"]) == len(found["main"]) == 1
        assert found["a"][0]["href"] == "#content"
        assert all(len(i["alt"]) > 20 for i in found["img"])
        assert all(t["scope"] in ("col", "row") for t in found["th"])
        assert len(found["caption"]) == len(found["table"])
        assert len(found["button"]) == 1 + len(
            within.top("FTL").columns
        )  # every column can be sorted from the keyboard
        assert all(i["aria-label"] and i["aria-controls"] for i in found["input"])
        assert all(d.get("tabindex") == "0" for d in found["div"] if d.get("class") == "scroll")
        ids = [a["id"] for tags in found.values() for a in tags if "id" in a]
        assert len(ids) == len(set(ids))
        assert {a["href"][1:] for a in found["a"]} <= set(ids)
        assert "@media print" in text
        assert ":focus-visible" in text

    def test_colours_have_contrast(self):
        """WCAG AA: 4.5 to 1 for text."""
        import re
        from importlib import resources

        style = (
            (resources.files("hiercorr") / "_templates" / "report.html")
            .read_text()
            .split("</style>")[0]
        )

        def luminance(colour):
            colour = "".join(2 * c for c in colour) if len(colour) == 3 else colour
            parts = [int(colour[k : k + 2], 16) / 255 for k in (0, 2, 4)]
            linear = [p / 12.92 if p <= 0.03928 else ((p + 0.055) / 1.055) ** 2.4 for p in parts]
            return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

        texts = re.findall(r"[ {;]color: #([0-9a-f]{3,6})", style)
        assert len(texts) >= 4
        for background in ("ffffff", "fff3d6"):
            for colour in texts:
                high, low = sorted((luminance(background), luminance(colour)), reverse=True)
                assert (high + 0.05) / (low + 0.05) >= 4.5, (colour, background)

    def test_in_chinese(self, gbm, within, between, tmp_path):
        design = hc.check_design(gbm, "sample_id", depth="total_counts")
        found = hc.evidence("FTL", within=within, between=between)
        path = hc.report(
            tmp_path / "r.html",
            within,
            design=design,
            evidence=found,
            gene="FTL",
            n=30,
            language="zh",
        )
        text = path.read_text()
        words = (
            "FTL 的伙伴基因",
            "相关系数",
            "方法",
            "搜索",
            "来源与版本",
            "样本内相关系数",
            "样本间q 值",
            "未说明",
            "须经得起审稿",
        )
        for part in ('<html lang="zh">', *words, "每细胞基因数", "CS-CORE(样本内)"):
            assert part in text
        assert '<p lang="en">' in text
        with pytest.raises(hc.InputError, match="language must be one of"):
            hc.report(tmp_path / "r.html", within, language="xx")

    def test_nothing_to_report(self, tmp_path, within):
        with pytest.raises(hc.InputError, match="nothing to report"):
            hc.report(tmp_path / "r.html")
        with pytest.raises(hc.InputError, match="no folder"):
            hc.report(tmp_path / "x" / "r.html", within)

    def test_text_in_names_is_escaped(self, tmp_path):
        adata, _ = simulate_counts(3, 40, 3, mean=3, seed=1)
        adata.var_names = ["<b>a", "b&c", "d"]
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            r = hc.CSCore(adata, "sample", depth="depth").fit()
        text = hc.report(tmp_path / "r.html", r, title="<i>").read_text()
        assert "<b>a" not in text
        assert "&lt;b&gt;a" in text

    def test_methods_name_what_was_run(self, gbm):
        m = hc.Pseudobulk(
            gbm,
            "sample_id",
            depth="total_counts",
            formula="~ condition",
            block="patient_id",
            block_method="correlation",
        )
        r = m.fit("voom", target="FTL")
        text = methods_text(r)
        assert "voom precision weights" in text
        assert "consensus correlation of 0." in text
        assert any("Smyth" in c for c in citations(r))
        assert not any("Freedman" in c for c in citations(r))
