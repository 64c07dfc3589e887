"""Pages and figures made from other files: model pages, benchmark tables, the two diagrams."""

from __future__ import annotations

import re
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import pandas as pd
from _front import three_mice_figure
from _structure import read_structure, structure_figure
from matplotlib.patches import FancyBboxPatch

from hiercorr.reporting.references import REFERENCES, bibtex
from hiercorr.specification import Specification, read_specification, shipped_models

ROOT = Path(__file__).parent.parent
BLUE, GREEN, ORANGE, RED, GREY = "#0072B2", "#009E73", "#E69F00", "#D55E00", "#555555"


def write(docs: Path) -> None:
    """All generated files, under docs/generated."""
    out = docs / "generated"
    out.mkdir(exist_ok=True)
    for name in shipped_models():
        _put(out / f"model_{name}.md", model_page(read_specification(name)))
    _put(out / "models.md", model_index())
    _put(out / "benchmarks.md", benchmark_page())
    _put(out / "references.bib", bibtex(short for short, _ in REFERENCES.values()))
    figures = {"route": route_figure(), "structure": structure_figure(read_structure())}
    with plt.rc_context({"svg.fonttype": "none", "svg.hashsalt": "hiercorr"}):  # text stays text
        for name, figure in figures.items():
            figure.savefig(out / f"{name}.svg", metadata={"Date": None})
            plt.close(figure)
    front = three_mice_figure(ROOT / "validation/results/three_mice.nc")
    front.savefig(out / "three_mice.png", dpi=200, metadata={"Software": None})
    plt.close(front)


def _put(path: Path, text: str) -> None:
    if (
        not path.exists() or path.read_text(encoding="utf-8") != text
    ):  # what did not change is not built again
        path.write_text(text, encoding="utf-8")


def model_index() -> str:
    rows = []
    for name in shipped_models():
        spec = read_specification(name)
        rows.append(f"| [{spec.title}](model_{name}.md) | {spec.question} |")
    listed = "\n".join(f"model_{name}" for name in shipped_models())
    return "\n".join(
        [
            "# Models",
            "",
            "Each file in `models/` states an analysis; the command line and the studies read it.",
            "",
            "| model | question |",
            "|---|---|",
            *rows,
            "",
            "```{toctree}",
            ":hidden:",
            "",
            listed,
            "```",
            "",
        ]
    )


def model_page(spec: Specification) -> str:
    """Return a specification as a page: question, estimand, equations, limits, how to run it."""
    lines = [
        f"# {spec.title}",
        "",
        f"**Question.** {spec.question}",
        "",
        f"**What is estimated.** {spec.estimand}",
        "",
    ]
    if spec.text.get("equations"):
        lines += ["## Equations", ""]
        for label, equation in spec.text["equations"].items():
            lines += [f"{label.replace('_', ' ').capitalize()}", "", "$$", equation, "$$", ""]
    for title, key in (("Assumptions", "assumptions"), ("When it fails", "limits")):
        if spec.text.get(key):
            lines += [f"## {title}", "", *[f"- {text}" for text in spec.text[key].values()], ""]
    if spec.text.get("priors"):
        lines += ["## Priors", "", "| parameter | prior |", "|---|---|"]
        lines += [f"| `{k}` | {v} |" for k, v in spec.text["priors"].items()] + [""]
    run = f"hiercorr power models/{spec.name}.toml"
    if spec.model == "differential":
        run = "hiercorr differential data.h5ad --sample donor --condition arm -o result.zarr"
    elif spec.model != "power":
        run = f"hiercorr fit models/{spec.name}.toml data.h5ad --sample donor -o result.zarr"
    lines += ["## Run it", "", "```sh", run, "```", "", f"The file: `models/{spec.name}.toml`.", ""]
    if spec.text.get("references"):
        lines += ["## References", ""]
        lines += [
            f"- {r['text']}"
            + (f" [doi:{r['doi']}](https://doi.org/{r['doi']})" if "doi" in r else "")
            for r in spec.text["references"]
        ]
    return "\n".join([*lines, ""])


def benchmark_page() -> str:
    """The benchmark notes, with the committed tables under them."""
    text = (ROOT / "validation/benchmarks/README.md").read_text(encoding="utf-8")
    text = text.replace("../results/", "../../validation/results/")
    text = re.sub(r"\(\[table\]\([^)]*\)\)", "(table below)", text)
    lines = [text, "## Committed tables", ""]
    for path in sorted((ROOT / "validation/results").glob("bench_*.csv")):
        table = pd.read_csv(path)
        lines += [f"`validation/results/{path.name}`", "", _markdown(table), ""]
    return "\n".join(lines)


def _markdown(table: pd.DataFrame) -> str:
    cells = table.astype(object).where(table.notna(), "")
    rows = [
        " | ".join(f"{v:.4g}" if isinstance(v, float) else str(v) for v in row)
        for row in cells.itertuples(index=False)
    ]
    return "\n".join(
        [
            f"| {' | '.join(map(str, table.columns))} |",
            "|" + "---|" * table.shape[1],
            *(f"| {r} |" for r in rows),
        ]
    )


def _box(
    ax, x: float, y: float, text: str, colour: str, width: float = 2.0, height: float = 0.62
) -> None:
    corner = (x - width / 2, y - height / 2)
    ax.add_patch(
        FancyBboxPatch(
            corner, width, height, boxstyle="round,pad=0.04", fc="white", ec=colour, lw=1.6
        )
    )
    ax.text(x, y, text, ha="center", va="center", fontsize=9)


def _arrow(ax, start: tuple[float, float], end: tuple[float, float], text: str = "") -> None:
    ax.annotate(
        "",
        end,
        start,
        arrowprops={"arrowstyle": "-|>", "color": GREY, "lw": 1.1, "shrinkA": 0, "shrinkB": 0},
    )
    if text:
        middle = (start[0] + end[0]) / 2, (start[1] + end[1]) / 2
        ax.text(
            *middle,
            text,
            fontsize=8.5,
            color=GREY,
            ha="center",
            va="center",
            bbox={"fc": "white", "ec": "none", "pad": 1},
        )


def _canvas(width: float, height: float, xlim: tuple[float, float], ylim: tuple[float, float]):
    fig, ax = plt.subplots(figsize=(width, height), layout="constrained")
    ax.set_xlim(*xlim)
    ax.set_ylim(*ylim)
    ax.axis("off")
    return fig, ax


def route_figure():
    """Which route for which question."""
    fig, ax = _canvas(10.5, 6.6, (0, 12), (0, 7.4))
    _box(ax, 6, 7.0, "counts of one cell type,\nsamples (donors, mice) named", GREY, 3.0)
    _box(ax, 6, 5.8, "how many samples?", GREY, 2.4)
    _arrow(ax, (6, 6.65), (6, 6.15))
    _box(
        ax,
        1.7,
        4.5,
        "1 or 2: no interval\nexplore, say so\nCellCorrelation, metacells",
        ORANGE,
        2.9,
        0.95,
    )
    _arrow(ax, (4.8, 5.8), (1.9, 5.03), "1-2")
    _box(ax, 7.6, 4.5, "which question?", GREY, 2.4)
    _arrow(ax, (6.3, 5.45), (7.4, 4.86), "3 or more")
    x = (1.7, 4.55, 7.45, 10.35)
    titles = (
        "in a cell where A is high,\nis B high?\nCSCore(...).fit()",
        "in donors where A is high,\nis B high?\nPseudobulk(...).fit()",
        "does the correlation differ\nbetween groups?\ndifferential(...)",
        "both levels at once,\nfew genes, priors\nBayesianCorrelation(...)",
    )
    for at, title, colour in zip(x, titles, (BLUE, GREEN, BLUE, RED), strict=True):
        _box(ax, at, 2.7, title, colour, 2.65, 1.0)
    for at, label in zip(x, ("within", "between (6 or more)", "change", "both"), strict=True):
        _arrow(ax, (7.6 + (at - 7.6) * 0.16, 4.15), (at, 3.26), label)
    notes = (
        "states of cells in the way:\ncovariates=\na gene set as target:\n.signature()\n"
        "many cell types:\nby_cell_type()",
        "covariates: formula=\nseveral samples per donor:\nblock=\nfew counts:\nfit('corrected')",
        "donors gave both conditions:\nblock=\nslopes between samples:\n"
        "Pseudobulk.fit(\ninteraction=)",
        "thousands of partners:\nfit_many()\n3-5 samples: mostly prior\nbetween samples",
    )
    for at, note in zip(x, notes, strict=True):
        ax.text(at, 2.05, note, ha="center", va="top", fontsize=8.5, color=GREY)
    _box(
        ax,
        6,
        0.3,
        "evidence(): both levels in one table      report(): one file for the reviewer",
        GREEN,
        7.2,
        0.5,
    )
    return fig
