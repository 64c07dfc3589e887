"""Commands without a fit of their own: demo, check, power and report."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from hiercorr.cli.group import main
from hiercorr.cli.options import (
    Output,
    block_option,
    data_options,
    given,
    modalities_of,
    modalities_option,
    output_options,
    require_sample,
)
from hiercorr.errors import InputError
from hiercorr.inference.multiplicity import benjamini_hochberg

if TYPE_CHECKING:
    from hiercorr.planning import Design
    from hiercorr.results import CorrelationResult


@main.command()
@click.option(
    "--output",
    "-o",
    type=click.Path(path_type=Path),
    default=Path("hiercorr-demo"),
    show_default=True,
    help="Name of the folder, and of the copy of its report (.html) beside it.",
)
def demo(output: Path) -> None:
    """Analyse real data shipped with hiercorr: partners of CDK1 in dividing stem cells."""
    import hiercorr as hc

    folder = output.with_suffix("") if output.suffix == ".html" else output
    data = hc.datasets.path("ipsc_cycle")
    click.echo(
        "Induced pluripotent stem cells of 6 donors (Hsiao et al. 2020), 101 genes. This runs\n"
        f"hiercorr analyze {data.name} --sample donor --depth depth --target CDK1 -o {folder}\n"
    )
    found = hc.analyze(
        data,
        folder,
        sample="donor",
        depth="depth",
        target="CDK1",
        title="Partners of CDK1 in induced pluripotent stem cells",
        overwrite=True,
    )
    part = found.parts[0]
    click.echo(f"{part.design}\n\n{part.traps}\n")
    click.echo(str(found["within"].summary(n=15)))
    click.echo(f"\n{part.evidence}")
    naive = hc.CSCore(data, "donor", depth="depth").fit(
        estimator="pooled", uncertainty="none", target="CDK1"
    )
    click.echo(f"\n{_calls(found['within'], naive)}\n")
    report = folder.with_name(f"{folder.name}.html")
    shutil.copyfile(folder / "report.html", report)
    click.echo(f"{found}\nCopy of the report: {report}")


def _calls(within: CorrelationResult, naive: CorrelationResult) -> str:
    """Count the partners by three tests, each with the same correction for the target's pairs."""
    donors, n_cells = within.dataset.attrs["n_samples"], naive.dataset.attrs["n_cells"]
    units = f"{donors} donors as units"
    tests = {
        f"{units}, each pair alone (jackknife)": within.matrix("jackknife_p_value"),
        f"{units}, hierarchical model (default)": within.matrix("p_value"),
        f"{n_cells} cells as units (published test)": naive.matrix("cell_p_value"),
    }
    lines = [f"{f'Partners of {within.target} at 5%':50}{'Bonferroni':>10}{'BH':>6}"]
    for name, table in tests.items():
        p = table.loc[within.target].drop(within.target).dropna().to_numpy(float)
        bonferroni, bh = (p * len(p) < 0.05).sum(), (benjamini_hochberg(p) < 0.05).sum()
        lines.append(f"  {name:48}{bonferroni:10}{bh:6}")
    return "\n".join(lines)


@main.command()
@click.argument("data", type=click.Path(path_type=Path))
@data_options
@click.option(
    "--types", metavar="COL", help="Column of obs with cell types, to count the cells of each."
)
@block_option
@modalities_option
@click.option(
    "--formula", metavar="FORMULA", help="Covariates of samples to check, e.g. '~ condition + sex'."
)
def check(
    data: Path,
    data_options: dict[str, Any],
    types: str | None,
    block: str | None,
    modalities: str | None,
    formula: str | None,
) -> None:
    """Check samples, cells and depth of DATA (.h5ad, .h5mu, .zarr, 10x .h5) before an analysis."""
    from hiercorr.planning.check import check_design

    require_sample(data_options)
    options = {"modalities": modalities_of(modalities), **data_options}
    found = check_design(data, cell_type=types, formula=formula, block=block, **options)
    click.echo(f"{found}\n")
    click.echo(found.samples.to_string(float_format=lambda v: f"{v:,.0f}"))
    if found.groups is not None:
        click.echo(f"\n{found.groups.to_string()}")


@main.command()
@click.argument("question", metavar="[within|between|differential|MODEL]", default="within")
@click.option("--samples", type=float, help="Number of samples, both groups together.")
@click.option("--cells", type=float, help="Cells per sample.")
@click.option("--mean", type=float, help="Mean count of both genes per cell.")
@click.option("--rho", type=float, help="Correlation, or difference of two correlations.")
@click.option(
    "--heterogeneity",
    type=float,
    help="Standard deviation of the correlation over samples.  [default: 0.1]",
)
@click.option(
    "--power",
    type=float,
    help="Required power; the one of samples, cells, mean and rho that is left out is solved for.",
)
@click.option("--alpha", type=float, help="Two-sided level.  [default: 0.05]")
@click.option("--tests", type=int, help="Number of pairs tested (Bonferroni).  [default: 1]")
@click.option(
    "--correlated",
    type=float,
    help="Number of the tested pairs with this correlation: alpha is a false discovery rate.",
)
@click.option(
    "--uncertainty",
    type=click.Choice(["hierarchical", "jackknife"]),
    help="within: inference over donors.  [default: hierarchical]",
)
@click.option(
    "--samples-per-donor", type=int, help="within: samples per donor, if there are several."
)
@click.option(
    "--baseline", type=float, help="differential: correlation in the first group.  [default: 0]"
)
@click.option(
    "--paired", is_flag=True, default=None, help="differential: every donor has both conditions."
)
@click.option(
    "--pilot",
    type=click.Path(path_type=Path),
    help="Counts from which mean, rho and spread of --pair are estimated.",
)
@click.option("--pair", metavar="GENE,GENE", help="Gene pair of the pilot data.")
@click.option("--sample", metavar="COL", help="Column of obs of the pilot data with the samples.")
@click.option(
    "--depth",
    metavar="COL",
    help="Column of obs of the pilot data with sequencing depth.  [default: row sums]",
)
@click.option(
    "--gene-names",
    metavar="COL",
    help="Column of var of the pilot data with gene names, such as symbols.  "
    "[default: names of var]",
)
@click.option(
    "--donor-cost",
    type=float,
    help="Cost of one more sample; with --cell-cost, list the cheapest designs.",
)
@click.option("--cell-cost", type=float, help="Cost of one cell.")
@click.option("--budget", type=float, help="Total cost; list the most powerful designs instead.")
@click.option("--curve", metavar="samples|cells", help="Tabulate power over this quantity.")
@click.option("--figure", type=click.Path(path_type=Path), help="Plot the curve to this image.")
def power(question: str, **options: Any) -> None:
    """Compute the power of a design, or what it takes to reach a power.

    QUESTION may be a specification such as models/power.toml.
    """
    pilot = _Pilot(*(options.pop(k) for k in ("pilot", "pair", "sample", "depth", "gene_names")))
    costs = _Costs(*(options.pop(k) for k in ("donor_cost", "cell_cost", "budget")))
    curve, figure = options.pop("curve"), options.pop("figure")
    if figure is not None:
        _check_figure(figure)
    wanted = options["power"]
    question, values = _question(question)
    values |= pilot.values(question)
    if pilot.data is not None and wanted is not None:
        values["samples"] = None
    from hiercorr import planning

    design = planning.power(question, **values | given(options))
    click.echo(str(design))
    costs.print_designs(design, wanted)
    if curve is not None or figure is not None:
        _print_curve(design, "samples" if curve is None else curve, figure, wanted)


def _question(name: str) -> tuple[str, dict[str, Any]]:
    """Return the question and its values, from a specification if one is named."""
    from hiercorr.planning.power_analysis import QUESTIONS
    from hiercorr.specification import read_specification

    values: dict[str, Any] = dict.fromkeys(("samples", "cells", "mean", "rho", "power"))
    if name in QUESTIONS:
        return name, values
    stated = read_specification(name)
    if stated.model != "power":
        raise InputError(f"{name!r} specifies a {stated.model} model, not a question of power")
    values |= stated.fit
    return values.pop("question", "within"), values


@dataclass(frozen=True)
class _Pilot:
    """Pilot data."""

    data: Path | None
    pair: str | None
    sample: str | None
    depth: str | None
    gene_names: str | None

    def values(self, question: str) -> dict[str, Any]:
        """Estimate the arguments of power() for a question."""
        from hiercorr import planning

        if self.data is None:
            for name in ("pair", "sample", "depth", "gene_names"):
                if getattr(self, name) is not None:
                    raise InputError(
                        f"--{name.replace('_', '-')} has no effect without --pilot: leave it out"
                    )
            return {}
        genes = [g.strip() for g in (self.pair or "").split(",") if g.strip()]
        if len(genes) != 2:
            raise InputError("--pilot needs --pair GENE,GENE: the two genes of the question")
        require_sample({"sample": self.sample})
        options = {"depth": self.depth, "gene_names": self.gene_names}
        found = planning.pilot(self.data, str(self.sample), *genes, **given(options))
        if question == "between":
            del found["heterogeneity"]  # of the correlation within samples
        return found


@dataclass(frozen=True)
class _Costs:
    """Costs of samples and cells."""

    donor_cost: float | None
    cell_cost: float | None
    budget: float | None

    def print_designs(self, design: Design, wanted: float | None) -> None:
        """Print the best designs, if costs were given."""
        from hiercorr import planning

        if (self.donor_cost is None) != (self.cell_cost is None):
            raise InputError("--donor-cost and --cell-cost go together: give both or neither")
        if self.donor_cost is None or self.cell_cost is None:
            if self.budget is not None:
                raise InputError("--budget has no effect without --donor-cost and --cell-cost")
            return
        goal = {"goal": wanted} if self.budget is None and wanted is not None else {}
        best = planning.best_design(
            design, self.donor_cost, self.cell_cost, budget=self.budget, **goal
        )
        click.echo(f"\n{best.head(10).to_string(index=False)}")


def _check_figure(path: Path) -> None:
    """Raise an error if a figure could not be written under this name."""
    from hiercorr.runtime.files import check_free

    if path.suffix.lower() not in (".pdf", ".png", ".svg"):
        raise InputError(f"--figure {str(path)!r} must end in .pdf, .png or .svg")
    check_free(path, overwrite=True)


def _print_curve(design: Design, over: str, figure: Path | None, goal: float | None) -> None:
    from hiercorr import planning, plotting
    from hiercorr.plotting.style import pyplot, save
    from hiercorr.runtime.files import written_whole

    table = planning.power_curve(design, over, planning.around(design, over))
    click.echo(f"\n{table.to_string(float_format=lambda v: f'{v:.3g}')}")
    if figure is not None:
        fig, ax = pyplot().subplots(figsize=(5.5, 4), layout="constrained")
        plotting.power_curve(table, goal=goal, ax=ax)
        with written_whole(figure) as draft:
            save(fig, draft, figure.suffix.lower()[1:], dpi=150)
        click.echo(f"Figure: {figure}")


@main.command()
@click.argument("result", type=click.Path(path_type=Path))
@output_options
def shrink(result: Path, output: Output) -> None:
    """Add local false sign rates and shrunken estimates to a saved RESULT.

    Learnt from all pairs of the result; the largest shrunken estimates are printed.
    """
    from hiercorr import load
    from hiercorr.results import CorrelationResult

    output.check()
    fitted = load(result)
    if not isinstance(fitted, CorrelationResult):
        raise InputError(f"{str(result)!r} has several cell types: fit and shrink each by itself")
    shrunken = fitted.shrink()

    def table() -> str:
        every = shrunken.target is None
        rows = (shrunken.pairs if every else shrunken.top)(n=output.rows, sort_by="shrunken")
        return str(rows.to_string(float_format=lambda v: f"{v:.3g}", index=not every))

    output.finish(shrunken, table)


@main.command()
@click.argument(
    "results", nargs=-1, required=True, type=click.Path(path_type=Path), metavar="RESULT..."
)
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path),
    default=Path("report.html"),
    show_default=True,
    help="Name of the report.",
)
@click.option("--gene", help="Show the partners of this gene.")
@click.option(
    "--rows",
    type=click.IntRange(min=1),
    default=500,
    show_default=True,
    help="Maximum number of rows of a table.",
)
@click.option("--title", help="Title of the report.")
@click.option(
    "--language",
    type=click.Choice(["en", "zh"]),
    default="en",
    show_default=True,
    help="Language of headings and columns.",
)
def report(results: Sequence[Path], output: Path, gene: str | None, **options: Any) -> None:
    """Write saved RESULTs as one HTML file.

    A result within and one between samples are joined by the evidence at both levels, of a target,
    several targets or listed pairs.
    """
    from hiercorr import evidence, load
    from hiercorr import report as write
    from hiercorr.results import CorrelationResult
    from hiercorr.results.kinds import kind_of
    from hiercorr.results.layout import has_all_pairs

    loaded = [load(r) for r in results]
    single = [r for r in loaded if isinstance(r, CorrelationResult)]
    levels: dict[str, Any] = {}
    for result in single:
        if not result.dataset.attrs.get("exploratory") and kind_of(result.dataset) is None:
            levels.setdefault(str(result.dataset.attrs.get("level")), result)
    both = None
    if {"within", "between"} <= set(levels):
        pair = [levels["within"], levels["between"]]
        target = gene or next((r.target for r in pair if r.target), None)
        if target is not None or not all(has_all_pairs(r.dataset) for r in pair):
            both = evidence(target, *pair)
    options["n"] = options.pop("rows")
    click.echo(f"Report: {write(output, *loaded, evidence=both, gene=gene, **options)}")
