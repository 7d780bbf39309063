"""The `glt` command: every pipeline step without Kubeflow Pipelines, and what keeps a project's data and models."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import typer
from rich.console import Console
from rich.table import Table

from glt import recipe, steps
from glt.errors import GltError
from glt.lifecycle import registry, versions


def show(result: Any) -> None:
    """Print what a step gives back: its metrics as a table, a verdict or a version as it is."""
    if isinstance(result, dict):
        table = Table("metric", "value", box=None)
        for name, value in result.items():
            table.add_row(name, f"{value:.4g}")
        Console().print(table)
    elif result is not None:
        print(result)


app = typer.Typer(
    help="Skeleton action recognition with the Global-local Motion Transformer, step by step.",
    result_callback=show,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)


@app.command()
def recipes() -> None:
    """List the recipes that come with the project."""
    for name in recipe.names():
        print(name)


@app.command()
def data(recordings: str = typer.Argument("", help="folder, archive or file; none: what data.dvc pins")) -> None:
    """Bring `data/` to what data.dvc pins, or replace it by your own recordings and update data.dvc."""
    root = Path.cwd()
    folder = versions.replace(root, Path(recordings)) if recordings else versions.prepare(root)
    print(folder)


@app.command()
def rollback(name: str = typer.Argument(help="registered model, such as glt-sample-xsub")) -> None:
    """Put the previous champion back in service."""
    version = registry.rollback(name)
    print(f"{name} v{version.version} is champion again")


for step in (
    steps.ingest,
    steps.disentangle,
    steps.pretrain,
    steps.linear_probe,
    steps.finetune,
    steps.compare,
    steps.report,
    steps.register,
    steps.promote,
):
    app.command()(step)


def main() -> None:
    """Run the command line; a GltError is one line on stderr and exit code 1."""
    try:
        app()
    except GltError as error:
        sys.exit(f"glt: error: {error}")
