"""The HTML report: contents, accessibility, escaping, refusals."""

import csv
import io
import json
import shutil
import subprocess
import warnings

import pytest

import hiercorr as hc
from hiercorr.enrichment import enrich
from hiercorr.simulate import simulate_counts
from tests.support import VEHICLE, fit

pytestmark = pytest.mark.filterwarnings(
    "ignore::hiercorr.DataWarning", "ignore::hiercorr.EstimationWarning"
)


@pytest.mark.slow
def test_whole_chain(gbm, within, between, tmp_path):
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
    assert text.count("data:image/svg+xml") > 12
    assert 'class="exploratory"' in text
    assert "http" not in text.replace("http-equiv", "").split("<style>")[0]
    assert 'src="http' not in text
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.usefixtures("undrawn")
def test_sorts_and_searches_in_a_browser(within, tmp_path):
    browser = shutil.which("chromium") or shutil.which("google-chrome")
    if browser is None:
        pytest.skip("no browser")
    path = hc.report(tmp_path / "r.html", within, gene="FTL", n=30)
    script = """<script>
      const table = document.getElementById("result0"), heads = table.tHead.rows[0].cells;
      const rows = () => [...table.tBodies[0].rows];
      heads[1].click(); const up = rows().map(r => Number(r.cells[1].dataset.value));
      heads[1].click(); const down = rows().map(r => Number(r.cells[1].dataset.value));
      const box = document.querySelector('[data-table="result0"]');
      box.value = "FTH1"; box.dispatchEvent(new Event("input"));
      const left = rows().filter(r => !r.hidden).map(r => r.cells[0].textContent);
      const file = csv(table);
      document.body.innerHTML = "<pre>" + JSON.stringify({up, down, left, file}) + "</pre>";
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
    matching = [g for g in within.top("FTL", 30).index if "FTH1" in g]
    assert sorted(found["left"]) == sorted(matching)  # in the order of the last click
    rows = list(csv.DictReader(io.StringIO(found["file"])))
    table = within.top("FTL", n=30)
    assert [row[table.index.name] for row in rows] == found["left"]  # the rows that are shown
    value = rows[0]["correlation"]
    assert float(value) == pytest.approx(table["correlation"][found["left"][0]], rel=1e-12)


@pytest.mark.usefixtures("undrawn")
def test_is_usable_without_a_mouse_and_on_paper(within, tmp_path):
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
    columns = within.top("FTL", 30).notna().any().sum()  # columns without values are not shown
    downloads = [b for b in found["button"] if b.get("class") == "download"]
    assert len(downloads) == len(found["table"])
    assert all(b["aria-label"].startswith("download CSV: ") for b in downloads)
    # Every column can be sorted from the keyboard.
    assert len(found["button"]) == 1 + columns + len(downloads)
    assert all(i["aria-label"] and i["aria-controls"] for i in found["input"])
    assert all(d.get("tabindex") == "0" for d in found["div"] if d.get("class") == "scroll")
    ids = [a["id"] for tags in found.values() for a in tags if "id" in a]
    assert len(ids) == len(set(ids))
    assert {a["href"][1:] for a in found["a"]} <= set(ids)
    assert "@media print" in text
    assert ":focus-visible" in text


def test_colours_have_contrast():
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


def test_nothing_to_report(tmp_path, within):
    with pytest.raises(hc.InputError, match="nothing to report"):
        hc.report(tmp_path / "r.html")
    with pytest.raises(hc.InputError, match="no folder"):
        hc.report(tmp_path / "x" / "r.html", within)


@pytest.mark.usefixtures("undrawn")
def test_text_in_names_is_escaped(tmp_path):
    adata, _ = simulate_counts(3, 40, 3, mean=3, seed=1)
    adata.var_names = ["<b>a", "b&c", "d"]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        r = hc.CSCore(adata, "sample", depth="depth").fit()
    text = hc.report(tmp_path / "r.html", r, title="<i>").read_text()
    assert "<b>a" not in text
    assert "&lt;b&gt;a" in text


def test_report(small, tmp_path):
    result = fit(small, target="gene0")
    design = hc.check_design(small, sample="sample", depth="depth")
    text = hc.report(tmp_path / "r.html", result, design=design).read_text()
    assert "Partners of gene0" in text
    assert "leaving one sample out" in text
    assert "http" not in text
    none = fit(small, estimator="pooled", uncertainty="none")
    assert "No uncertainty" in hc.report(tmp_path / "r.html", none).read_text()
    with pytest.raises(hc.InputError, match="no folder"):
        hc.report(tmp_path / "x" / "r.html", result)


@pytest.mark.usefixtures("undrawn")
def test_shrunken_estimates_are_in_the_report(gbm, tmp_path):
    options = {"depth": "total_counts", "subset": {"condition": "ctrl"}, "genes": 80}
    shrunken = hc.CSCore(gbm, "sample_id", **options).fit(target="FTL").shrink()
    page = hc.report(tmp_path / "r.html", shrunken, n=5).read_text(encoding="utf-8")
    for text in (">lfsr<", ">shrunken correlation<", "Largest shrunken estimates"):
        assert text in page
    assert "local false sign rates" in page  # the methods paragraph
    best = shrunken.top(n=1).iloc[0]
    assert f'data-value="{best["shrunken_correlation"]:.6f}'[:-1] in page
    page = hc.report(tmp_path / "z.html", shrunken, n=5, language="zh").read_text(encoding="utf-8")
    assert "局部错误符号率" in page
