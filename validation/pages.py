"""Write the documentation pages of the studies from their committed results only."""

from __future__ import annotations

import json
from pathlib import Path

import pandas as pd

from validation.runner import RESULTS, load, read_results, study_names

PAGES = Path(__file__).parent.parent / "docs" / "validation"


def page(name: str) -> str:
    """The page of one study in Markdown."""
    study = load(name)
    table, about = read_results(name)
    refuted = json.loads(about["refuted_by"])
    lines = [
        f"# {about['title'].splitlines()[0].rstrip('.')}",
        "",
        f"**Claim.** {about['claim']}",
        "",
    ]
    if refuted:
        lines += [f"**Refuted in {len(refuted)} places:**", "", *[f"- {r}" for r in refuted], ""]
    else:
        lines += ["**It held**, with margins of three Monte-Carlo errors.", ""]
    figures = sorted(RESULTS.glob(f"{name}.png")) + sorted(RESULTS.glob(f"{name}-*.png"))
    lines += [
        line for f in figures for line in (f"![{f.stem}](../../validation/results/{f.name})", "")
    ]
    lines += [f"- {remark}" for remark in study.remarks(table)] + [""]
    models = ", ".join(
        f"`models/{m}.toml` ({q.rstrip('?.')})" for m, q in json.loads(about["models"]).items()
    )
    panels = f"{about['replicates']} panels a cell of the grid"
    lines += [
        f"Models: {models}. Table: `validation/results/{name}.nc`, {len(table):,} rows; {panels}, "
        f"seed {about['seed']}; "
        f"{about['versions']}. Rerun: `python -m validation run {name}`.",
        "",
    ]
    return "\n".join(lines)


def index(names: list[str]) -> str:
    rows = []
    for name in names:
        _, about = read_results(name)
        refuted = json.loads(about["refuted_by"])
        rows.append(
            f"| [{name}]({name}.md) | {about['title'].splitlines()[0]} | "
            f"{'refuted' if refuted else 'held'} |"
        )
    head = [
        "# Validation",
        "",
        "Every page is written from the committed results by `python -m validation pages`.",
        "",
    ]
    listed = ["```{toctree}", ":hidden:", "", *names, "```", ""]
    return "\n".join([*head, "| study | question | claim |", "|---|---|---|", *rows, "", *listed])


def pages() -> dict[str, str]:
    """File name -> text of all pages."""
    names = [n for n in study_names() if (RESULTS / f"{n}.nc").exists()]
    return {"index.md": index(names)} | {f"{n}.md": page(n) for n in names}


def write_pages(folder: Path = PAGES) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in pages().items():
        (folder / name).write_text(text, encoding="utf-8")


def span(values: pd.Series, digits: int = 1) -> str:
    """'3.1-5.2%' of shares."""
    low, high = (f"{100 * v:.{digits}f}" for v in (values.min(), values.max()))
    return f"{low}%" if low == high else f"{low}-{high}%"
