"""Rerun studies (``python -m validation run [NAME] [--quick]``) or rewrite their pages."""

from __future__ import annotations

import time

import click

from validation.pages import write_pages
from validation.runner import RESULTS, load, run_study, study_names


@click.group()
def main() -> None:
    """Simulation studies."""


@main.command()
@click.argument("name", required=False)
@click.option("--quick", is_flag=True, help="A small grid and few replicates; nothing is written.")
@click.option(
    "--replicates",
    type=int,
    help="Panels per cell of the grid.  [default: what the study asks for]",
)
@click.option("--jobs", type=int, default=2, show_default=True)
def run(name: str | None, quick: bool, replicates: int | None, jobs: int) -> None:
    """Run the study NAME, or all; an interrupted run goes on where it stopped."""
    if name is not None and name not in study_names():
        raise click.UsageError(f"unknown study {name!r}; there are: {', '.join(study_names())}")
    for study in [name] if name else study_names():
        start = time.time()
        _, refuted = run_study(study, quick, replicates, jobs, None if quick else RESULTS)
        click.echo(f"{study} ({time.time() - start:.0f} s): {load(study).CLAIM}")
        click.echo("  holds" if not refuted else "  REFUTED: " + "; ".join(refuted))


@main.command()
def pages() -> None:
    """Write docs/validation/ from the committed results."""
    write_pages()


if __name__ == "__main__":
    main()
