"""`python -m pipelines run|compile`."""

from __future__ import annotations

import sys
from pathlib import Path

import typer
from kfp import compiler

from glt.errors import GltError
from pipelines.profiles import PROFILES
from pipelines.training import training_pipeline

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)


@app.command()
def run(
    recordings: str = typer.Option(
        "", help="path, s3://... or dvc+<git repository>@<revision>; none: what data.dvc pins"
    ),
    recipe: str = typer.Option("sample", help="name of a recipe, or a path to a YAML file"),
) -> None:
    """Run the training graph on this machine."""
    from pipelines import local

    local.run(recordings, recipe)


@app.command("compile")
def compile_graph(
    out: Path = typer.Option(Path("build/training.yaml"), help="where the graph goes"),  # noqa: B008
    profile: str = typer.Option("gpu", help=f"accelerator profile: {', '.join(PROFILES)}"),
) -> None:
    """Write the training graph as KFP's intermediate representation, to upload to a cluster."""
    if profile not in PROFILES:
        raise GltError(f"accelerator profile {profile!r}: take one of {', '.join(PROFILES)}")
    out.parent.mkdir(parents=True, exist_ok=True)
    compiler.Compiler().compile(training_pipeline(profile), str(out))
    print(out)


def main() -> None:
    """Run the command line; a GltError is one line on stderr and exit code 1."""
    try:
        app()
    except GltError as error:
        sys.exit(f"glt: error: {error}")


main()
