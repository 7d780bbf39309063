"""`python -m pipelines run|retrain|ablate|arms|compile|submit|schedule`.

KFP is imported when a command runs, so that help does not wait for it.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Literal

import typer

from glt import logs

HERE, CLUSTER = "On this machine", "On a cluster"
Recordings = Annotated[
    str, typer.Option(help="Path, s3://... or dvc+<git repository>@<revision>; none: what data.dvc pins.")
]
Recipe = Annotated[str, typer.Option(help="Name of a recipe, or path of a YAML file.")]
Arms = Annotated[str, typer.Option(help="Names of arms, separated by commas; none: all.")]
Seeds = Annotated[int, typer.Option(min=0, help="Use only the first so many seeds; 0: all.")]
ProfileName = Annotated[str, typer.Option(help="gpu, gpu-nodes, cpu, or a profile of infra/profiles.yaml.")]

app = typer.Typer(
    help="Run, compile, submit and schedule the graphs.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)


@app.callback()
def verbosity(
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Print details, and tracebacks of errors.")] = False,
) -> None:
    """Run, compile, submit and schedule the graphs."""
    logs.set_verbosity(int(verbose))


@app.command(rich_help_panel=HERE)
def run(
    recordings: Recordings = "",
    recipe: Recipe = "sample",
    runner: Annotated[
        Literal["process", "docker"], typer.Option(help="Run a step as a process, or as a container of GLT_IMAGE.")
    ] = "process",
) -> None:
    """Run the training graph."""
    from pipelines import local

    local.run(recordings, recipe, runner)


@app.command(rich_help_panel=HERE)
def retrain(recordings: Recordings = "", recipe: Recipe = "sample") -> None:
    """Run the retraining graph, which trains only if the champion has not seen these recordings."""
    from pipelines import local

    local.retrain(recordings, recipe)


@app.command(rich_help_panel=HERE)
def ablate(
    recordings: Recordings = "",
    study: Annotated[str, typer.Option(help="Name of a study, or path of a YAML file.")] = "sample",
    arms: Arms = "",
    seeds: Seeds = 0,
) -> None:
    """Train the arms of a study and compare them."""
    from glt.recipe import study as studies
    from pipelines import local

    chosen = studies.load(study)
    local.ablate(recordings, chosen, chosen.recipes(seeds=chosen.first_seeds(seeds), arms=_names(arms)))


@app.command(rich_help_panel=CLUSTER)
def arms(
    study: Annotated[str, typer.Argument(help="Name of a study, or path of a YAML file.")],
    arms: Arms = "",
    seeds: Seeds = 0,
) -> None:
    """Print a study's arms as JSON: the parameter `arms` of build/ablation.yaml."""
    from glt.recipe import study as studies
    from pipelines.parameters import check_size

    chosen = studies.load(study)
    items = studies.items(chosen.recipes(seeds=chosen.first_seeds(seeds), arms=_names(arms)))
    check_size("ablation", {"arms": items, "recipe": chosen.base.to_json()})
    print(json.dumps(items))


@app.command("compile", rich_help_panel=CLUSTER)
def compile_graph(
    out: Annotated[Path, typer.Option(help="Folder to write the graphs to.")] = Path("build"),
    profile: ProfileName = "gpu",
) -> None:
    """Compile the graphs to KFP's YAML, to upload to a cluster."""
    from pipelines.graphs import write_graphs

    for file in write_graphs(profile, out):
        print(file)


@app.command(rich_help_panel=CLUSTER)
def submit(
    recordings: Annotated[str, typer.Option(help="s3://... or dvc+<git repository>@<revision>.")],
    recipe: Recipe = "sample",
    graph: Annotated[str, typer.Option(help="training, retraining or ablation.")] = "training",
    profile: ProfileName = "gpu",
    nodes: Annotated[int | None, typer.Option(min=1, help="Machines that pretrain; none: as the profile says.")] = None,
    study: Annotated[str, typer.Option(help="Name of a study, or path of a YAML file; of an ablation.")] = "sample",
) -> None:
    """Start a run on the Kubeflow Pipelines server that KF_PIPELINES_ENDPOINT names."""
    from pipelines import cluster

    print(cluster.submit(graph, recordings, recipe, profile, nodes, study))


@app.command(rich_help_panel=CLUSTER)
def schedule(
    file: Annotated[Path, typer.Argument(help="YAML file of schedules by name.")] = Path("infra/schedules.yaml"),
    dry: Annotated[bool, typer.Option("--dry-run", help="Only show what would change.")] = False,
) -> None:
    """Make the server's schedules match a file: create, replace, delete."""
    from pipelines import cluster

    changes = cluster.reconcile(cluster.read_schedules(file), dry=dry)
    for change in changes:
        print(f"{change.action} {change.name}: {change.reason}")
    if not changes:
        print("the server has what is declared")


def _names(listed: str) -> tuple[str, ...]:
    return tuple(name.strip() for name in listed.split(",")) if listed else ()


def main() -> None:
    """Run the command line."""
    logs.run_entry(app)


if __name__ == "__main__":
    main()
