"""`python -m pipelines run|ablate|arms|compile`."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import typer
from kfp import compiler

from glt import study as studies
from glt.errors import GltError
from pipelines.ablation import ablation_pipeline
from pipelines.profiles import PROFILES
from pipelines.training import training_pipeline

RECORDINGS = "path, s3://... or dvc+<git repository>@<revision>; none: what data.dvc pins"

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)


@app.command()
def run(
    recordings: str = typer.Option("", help=RECORDINGS),
    recipe: str = typer.Option("sample", help="name of a recipe, or a path to a YAML file"),
) -> None:
    """Run the training graph on this machine."""
    from pipelines import local

    local.run(recordings, recipe)


@app.command()
def ablate(
    recordings: str = typer.Option("", help=RECORDINGS),
    study: str = typer.Option("sample", help="name of a study, or a path to a YAML file"),
    arms: str = typer.Option("", help="some of its arms, with commas between; none: all"),
    seeds: int = typer.Option(0, min=0, help="only its first so many seeds; 0: all"),
) -> None:
    """Train the arms of a study on this machine and compare them."""
    from pipelines import local

    chosen = studies.load(study)
    names = tuple(name for name in arms.split(",") if name)
    local.ablate(recordings, chosen, chosen.recipes(seeds=chosen.seeds[:seeds], arms=names))


@app.command()
def arms(study: str = typer.Argument(help="name of a study, or a path to a YAML file")) -> None:
    """Print a study's `arms` as JSON: the parameter of build/ablation.yaml on a cluster."""
    print(json.dumps([{"recipe": arm.to_json()} for arm in studies.load(study).recipes()]))


@app.command("compile")
def compile_graph(
    out: Path = typer.Option(Path("build"), help="folder where the graphs go"),  # noqa: B008
    profile: str = typer.Option("gpu", help=f"accelerator profile: {', '.join(PROFILES)}"),
) -> None:
    """Write the graphs as KFP's intermediate representation, to upload to a cluster: training.yaml, ablation.yaml."""
    if profile not in PROFILES:
        raise GltError(f"accelerator profile {profile!r}: take one of {', '.join(PROFILES)}")
    out.mkdir(parents=True, exist_ok=True)
    for name, graph in {"training": training_pipeline, "ablation": ablation_pipeline}.items():
        compiler.Compiler().compile(graph(profile), str(out / f"{name}.yaml"))
        print(out / f"{name}.yaml")


def main() -> None:
    """Run the command line; a GltError is one line on stderr and exit code 1."""
    try:
        app()
    except GltError as error:
        sys.exit(f"glt: error: {error}")


main()
