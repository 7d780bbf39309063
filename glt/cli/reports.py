"""Commands that show results: MLflow's UI, reports and figures, and the machine's state."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from glt.cli.options import (
    Accelerator,
    Classifier,
    Clips,
    CodeVersion,
    DataVersion,
    Encoder,
    Json,
    Model,
    Motions,
    RecipeName,
    Verdict,
)
from glt.cli.output import print_json, run
from glt.cli.ports import next_free
from glt.cli.serve import become_mlflow

PANEL = "Reports"
app = typer.Typer()


@app.command(rich_help_panel=PANEL)
def ui(port: Annotated[int, typer.Option(help="TCP port on 127.0.0.1; if taken, the next free one.")] = 5000) -> None:
    """Serve MLflow's UI on the runs of this machine."""
    from glt import settings
    from glt.lifecycle import tracking

    uri = settings.store_uri()
    if not settings.is_local():
        print(f"MLFLOW_TRACKING_URI is set: the runs are at {uri}{tracking.UI}")
        return
    tracking.connect()
    port = next_free(port)
    print(f"MLflow on http://127.0.0.1:{port}{tracking.UI}, Ctrl-C ends it", flush=True)
    become_mlflow("ui", "--backend-store-uri", uri, "--port", str(port), "--workers", "1")


@app.command(rich_help_panel=PANEL)
def report(
    clips: Clips,
    motions: Motions,
    encoder: Encoder,
    classifier: Classifier,
    finetuned: Annotated[list[Path], typer.Argument(help="Folders of the fine-tuned classifiers.")],
    verdict: Verdict,
    recipe: RecipeName,
    out: Annotated[Path, typer.Argument(help="HTML page to write.")],
    data_version: DataVersion = "",
    code_version: CodeVersion = "",
    as_json: Json = False,
) -> None:
    """Write one HTML page on a run, and record its scores in MLflow."""
    from glt.steps import report

    run(
        as_json,
        report.report,
        clips,
        motions,
        encoder,
        classifier,
        finetuned,
        verdict,
        recipe,
        out,
        data_version,
        code_version,
    )


@app.command(rich_help_panel=PANEL)
def attention(
    motions: Motions,
    encoder: Encoder,
    out: Annotated[Path, typer.Argument(help="Folder for the figures.")],
    against: Annotated[Path | None, typer.Option(help="A second encoder, to compare attended distances.")] = None,
    clips: Annotated[int, typer.Option(help="Number of test clips to average over, at most.")] = 300,
    frames: Annotated[int, typer.Option(help="Frames of the temporal maps; shorter clips are left out.")] = 30,
    accelerator: Accelerator = "auto",
    as_json: Json = False,
) -> None:
    """Draw what an encoder attends to: the paper's Figures 4, 5, A, B and C."""
    from glt.steps import attention

    run(as_json, attention.attention, motions, encoder, out, against, clips, frames, accelerator)


@app.command("compare-models", rich_help_panel=PANEL)
@app.command("compare", hidden=True)
def compare_models(
    first: Model,
    second: Model,
    out: Annotated[Path | None, typer.Option(help="HTML page; among the reports in GLT_HOME if not given.")] = None,
    root: Annotated[Path, typer.Option(help="Git repository whose data.dvc pins their recordings.")] = Path(),
    as_json: Json = False,
) -> None:
    """Write one page on two registered models: scores, confusions, and changes in data, recipe and code."""
    from glt.steps import models

    run(as_json, models.compare_models, first, second, out, root)


@app.command(rich_help_panel=PANEL)
def doctor(as_json: Json = False) -> None:
    """Check this machine and its services, and say what to do; exit code 1 if there is a problem."""
    from dataclasses import asdict

    from rich.text import Text

    from glt.console import cell, console
    from glt.doctor import examine

    results = examine(Path.cwd())
    if as_json:
        print_json([asdict(result) for result in results])
    else:
        screen, colours = console(), {"ok": "green", "warning": "yellow", "problem": "red"}
        for result in results:
            said = cell(result.message + (f"; {result.remedy}" if result.remedy else ""))
            status = (f"{result.status:<8}", colours[result.status])
            screen.print(Text.assemble(status, f" {result.check:<16} {said}"), soft_wrap=True)
    if any(result.status == "problem" for result in results):
        raise typer.Exit(1)
