"""The `glt` command: every pipeline step without Kubeflow Pipelines, and what keeps a project's data and models."""

from __future__ import annotations

import inspect
import os
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import typer
from rich.console import Console
from rich.markup import escape
from rich.padding import Padding
from rich.table import Table

from glt import logs, recipe, settings
from glt.analysis import summary
from glt.errors import GltError
from glt.lifecycle import lineage, registry, tracking
from glt.lifecycle import recordings as pinned
from glt.steps import attention, collect, data, gate, models, predict, release, report, training


def show(result: Any) -> None:
    """Print what a step gives back: its metrics as a table, a verdict or a version as it is."""
    if result == {}:  # a process that leaves speaking to the first
        return
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


@app.command("model")
def describe(
    name: str = typer.Argument(metavar="RECIPE", help="name or path of a recipe"),
    frames: int = typer.Option(0, help="count the FLOPs of a clip this long, too (the mean length, say)"),
) -> None:
    """Print a recipe's model: its modules, their parameters, and the FLOPs of a clip of T_max frames."""
    Console().print(summary.tree(recipe.load(name), frames), highlight=False)


@app.command("data")
def prepare(
    recordings: str = typer.Argument("", help="folder, archive or file; none: what data.dvc pins"),
    add: bool = typer.Option(False, help="put them beside those that data.dvc pins, which need not be here"),
) -> None:
    """Bring `data/` to what data.dvc pins, or replace it by your own recordings, or add a batch; update data.dvc."""
    root = Path.cwd()
    if not recordings:
        print(pinned.prepare(root))
        return
    done = (pinned.add if add else pinned.replace)(root, Path(recordings))
    print(f"data.dvc pins {done.version}; " + ("DVC's remote has it" if done.pushed else f"not pushed: {done.reason}"))


@app.command()
def ui(port: int = 5000) -> None:
    """Serve MLflow's UI on the runs of this machine."""
    uri = settings.store_uri()
    if not settings.is_local():
        print(f"MLFLOW_TRACKING_URI is set: the runs are at {uri}{tracking.UI}")
        return
    tracking.connect()
    print(f"MLflow on http://127.0.0.1:{port}{tracking.UI}, Ctrl-C ends it", flush=True)
    _become_mlflow("ui", "--backend-store-uri", uri, "--port", str(port), "--workers", "1")


@app.command("lineage")
def trace(
    model: str = typer.Argument("", help="NAME/VERSION, NAME@ALIAS, or NAME: its champion"),
    data: str = typer.Option(
        "", help="instead: a data version, a git revision, a file in data/, or s3://... of a delivered object"
    ),
) -> None:
    """Print where a model comes from; or, for recordings, which runs used them and which models they are in."""
    if bool(model) == bool(data):
        raise GltError("lineage: give a model, or --data, and not both")
    Console().print(
        lineage.of_model(model, Path.cwd()) if model else lineage.of_data(data, Path.cwd()), highlight=False
    )


MODEL = typer.Argument(help="NAME/VERSION, NAME@ALIAS, or NAME: its champion")
NAME = typer.Argument(help="registered model, such as glt-sample-xsub")


@app.command()
def serve(
    model: str = typer.Argument("", help="NAME/VERSION, NAME@ALIAS, or NAME: its champion; none: the only one"),
    port: int = 5001,
) -> None:
    """Answer over HTTP with MLflow's model server: POST clips to /invocations."""
    version = registry.find(model or registry.only())
    version.folder()  # what is not as it was registered is not served
    address = f"models:/{version.name}/{version.version}"
    print(f"{version.name} v{version.version} on http://127.0.0.1:{port}/invocations, Ctrl-C ends it", flush=True)
    os.environ[settings.TRACKING_URI] = settings.store_uri()
    _become_mlflow("models", "serve", "-m", address, "--env-manager", "local", "-p", str(port))


def _become_mlflow(*arguments: str) -> None:
    """Be MLflow's own command from here on, so that who ends this process ends its server."""
    tools = Path(sys.executable).parent  # MLflow starts its server by name
    os.environ["PATH"] = f"{tools}{os.pathsep}{os.environ['PATH']}"
    os.execv(sys.executable, [sys.executable, "-m", "mlflow", *arguments])


@app.command("predict")
def classify(
    recordings: str = typer.Argument(help="path, s3://... or dvc+..., in the format of the model's recipe"),
    model: str = typer.Option("", help="NAME/VERSION, NAME@ALIAS, or NAME: its champion; none: the only one"),
    out: Path | None = typer.Option(None, help="a CSV file for the answers, instead of the screen"),  # noqa: B008
) -> None:
    """Say what recordings show: a row a clip with its label and confidence."""
    if out is not None:
        predict.PREDICTIONS.check(out)
    answers, rejected = predict.predict(recordings, model)
    for row in rejected.itertuples():
        print(f"glt: {row.source}: not used, {row.check}: {row.reason}", file=sys.stderr)
    if out is not None:
        predict.PREDICTIONS.write(out, answers.to_csv(index=False).encode())
        return
    table = Table(*answers.columns, box=None)
    for row in answers.itertuples(index=False):
        table.add_row(str(row.clip), str(row.label), f"{row.confidence:.3f}")
    Console().print(table)


@app.command()
def promote(
    model: str = MODEL,
    because: str = typer.Option(help="the reason, for those who come after"),
    force: bool = typer.Option(False, help="although the gate did not pass it, or another champion has come since"),
) -> None:
    """Put a version in service by hand; a run of the pipeline does it by itself when the gate passes."""
    version = registry.find(model)
    over = version.tags.get("gate.over", "none").removeprefix("none")
    if not force and version.tags.get("gate.passed") != "True":
        raise GltError(f"{model}: the gate did not pass it (`make ui` says why); --force promotes it nevertheless")
    registry.promote(version.name, version.version, f"by hand: {because}", over=None if force else over)
    print(f"{version.name} v{version.version} is champion")


@app.command()
def rollback(name: str = NAME, because: str = typer.Option("", help="the reason")) -> None:
    """Put the previous champion back in service."""
    version = registry.rollback(name, because)
    print(f"{name} v{version.version} is champion again")


@app.command()
def history(name: str = NAME) -> None:
    """List every change of the model in service, the oldest first."""
    console = Console(highlight=False)
    for event in registry.history(name):
        at = event.at.partition("+")[0].replace("T", " ")
        change = f"{f'v{event.over} → ' if event.over else ''}v{event.version} {event.what}"
        console.print(f"{at} UTC  [bold]{change}[/bold] by {escape(event.by)}", soft_wrap=True)
        console.print(Padding(escape(event.because), (0, 0, 0, 4)))


STEPS: dict[str, Callable[..., Any]] = {
    "collect": collect.collect,
    "ingest": data.ingest,
    "inspect": data.inspect,
    "disentangle": data.disentangle,
    "pretrain": training.pretrain,
    "linear-probe": training.linear_probe,
    "finetune": training.finetune,
    "gate": gate.gate,
    "report": report.report,
    "attention": attention.attention,
    "register": release.register,
    "compare-models": models.compare_models,
}
for title, step in STEPS.items():
    app.command(title, help=re.split(r"\n\n(?:Args|Raises):", inspect.getdoc(step) or "")[0])(step)


def main() -> None:
    """Run the command line; a GltError is one line on stderr and its exit code: 1, or 143 after SIGTERM."""
    logs.to_stderr()
    try:
        app()
    except GltError as error:
        logs.fail(error)
