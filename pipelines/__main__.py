"""`python -m pipelines run|retrain|ablate|arms|compile|submit|schedule`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Literal

import typer

from glt import logs
from glt.errors import GltError
from glt.recipe import study as studies
from pipelines.graphs import write_graphs
from pipelines.profiles import PROFILES

RECORDINGS = "path, s3://... or dvc+<git repository>@<revision>; none: what data.dvc pins"

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)


@app.command()
def run(
    recordings: str = typer.Option("", help=RECORDINGS),
    recipe: str = typer.Option("sample", help="name of a recipe, or a path to a YAML file"),
    runner: Literal["process", "docker"] = typer.Option(
        "process", help="a step is a process, or a container of GLT_IMAGE"
    ),
) -> None:
    """Run the training graph on this machine."""
    from pipelines import local

    local.run(recordings, recipe, runner)


@app.command()
def retrain(
    recordings: str = typer.Option("", help=RECORDINGS),
    recipe: str = typer.Option("sample", help="name of a recipe, or a path to a YAML file"),
) -> None:
    """Run the retraining graph on this machine: the training graph, if the champion has not seen these recordings."""
    from pipelines import local

    local.retrain(recordings, recipe)


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
    """Write the graphs as KFP's intermediate representation, to upload to a cluster: training.yaml, ..."""
    if profile not in PROFILES:
        raise GltError(f"accelerator profile {profile!r}: take one of {', '.join(PROFILES)}")
    for file in write_graphs(profile, out):
        print(file)


@app.command()
def submit(
    recordings: str = typer.Option(help="s3://... or dvc+<git repository>@<revision>"),
    recipe: str = typer.Option("sample", help="name of a recipe, or a path to a YAML file"),
    graph: str = typer.Option("training", help="training or retraining"),
    profile: str = typer.Option("gpu", help="accelerator profile: gpu, gpu-nodes or cpu"),
    nodes: int | None = typer.Option(None, min=1, help="machines that pretrain together; none: as the profile says"),
) -> None:
    """Start a run on the Kubeflow Pipelines server that KF_PIPELINES_ENDPOINT names."""
    from pipelines import cluster

    print(cluster.submit(graph, recordings, recipe, profile, nodes))


@app.command()
def schedule(
    file: Path = typer.Argument(Path("infra/schedules.yaml"), help="schedules by name"),  # noqa: B008
    dry: bool = typer.Option(False, "--dry-run", help="only show what would change"),
) -> None:
    """Make the server's schedules those that a file declares: create, replace, delete."""
    from pipelines import cluster

    changes = cluster.reconcile(cluster.read_schedules(file), dry=dry)
    for change in changes:
        print(f"{change.action} {change.name}: {change.reason}")
    if not changes:
        print("the server has what is declared")


def main() -> None:
    """Run the command line; a GltError is one line on stderr and exit code 1."""
    logs.to_stderr()
    try:
        app()
    except GltError as error:
        logs.fail(error)


main()
