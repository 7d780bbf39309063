"""The `glt` command: every pipeline step without Kubeflow Pipelines, and the management of a project's data and models.

One module per panel of `glt --help`. A command declares its parameters itself and imports its step when it is called,
so that help and completion import neither torch nor MLflow.
"""

from __future__ import annotations

import os
import sys
from importlib import metadata
from typing import Annotated

import typer

from glt import logs
from glt.cli import data, registry, reports, serve, train
from glt.errors import GltError
from glt.text import printable

app = typer.Typer(
    help="Skeleton action recognition with the Global-local Motion Transformer, step by step.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
for panel in (data, train, registry, serve, reports):
    app.add_typer(panel.app)


def _version(show: bool) -> None:
    if show:
        print(f"glt {metadata.version('glt')}")
        raise typer.Exit


@app.callback()
def verbosity(
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Print details, and tracebacks of errors.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Print warnings and errors only, no progress.")] = False,
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    """Skeleton action recognition with the Global-local Motion Transformer, step by step."""
    if verbose and quiet:
        raise GltError("--verbose and --quiet exclude each other; give one of them")
    logs.set_verbosity(int(verbose) - int(quiet))


def main() -> None:
    """Run the command line."""
    logs.run_entry(_run)


def _run() -> None:
    for argument in sys.argv[1:]:
        try:
            os.fsencode(argument)
        except UnicodeEncodeError:
            shown = " ".join(printable(argument).split())
            raise GltError(f"argument {shown}: not text that a file name can have; correct the argument") from None
    app()
