"""``python -m validation run [NAME] [--quick]``: rerun studies and rewrite their committed results."""

from __future__ import annotations

import importlib
import time

import click

from validation.runner import RESULTS, run_study, study_names


@click.group()
def main() -> None:
    """Simulation studies."""


@main.command()
@click.argument("name", required=False)
@click.option("--quick", is_flag=True, help="A small grid and few replicates; nothing is written.")
@click.option("--replicates", type=int, help="Panels per cell of the grid.  [default: 60; quick: 6]")
@click.option("--jobs", type=int, default=2, show_default=True)
def run(name: str | None, quick: bool, replicates: int | None, jobs: int) -> None:
    """Run the study NAME, or all."""
    if name is not None and name not in study_names():
        raise click.UsageError(f"unknown study {name!r}; there are: {', '.join(study_names())}")
    for study in [name] if name else study_names():
        start = time.time()
        _, refuted = run_study(study, quick, replicates or (6 if quick else 60), jobs, None if quick else RESULTS)
        claim = importlib.import_module(f"validation.studies.{study}").CLAIM
        click.echo(f"{study} ({time.time() - start:.0f} s): {claim}")
        click.echo("  holds" if not refuted else "  REFUTED: " + "; ".join(refuted))


if __name__ == "__main__":
    main()
