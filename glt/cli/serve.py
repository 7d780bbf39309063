"""Commands that answer with a registered model."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from glt.cli.options import Json
from glt.cli.output import print_json, print_table
from glt.cli.ports import next_free
from glt.outputs import csv_bytes

PANEL = "Serve"
ANY_MODEL = "NAME/VERSION, NAME@ALIAS, or NAME for its champion; none: the only model there is."
app = typer.Typer()


@app.command("predict", rich_help_panel=PANEL)
def classify(
    recordings: Annotated[str, typer.Argument(help="Path, s3:// or dvc+ address, in the format the model reads.")],
    model: Annotated[str, typer.Option(help=ANY_MODEL)] = "",
    out: Annotated[Path | None, typer.Option(help="CSV file to write instead of printing.")] = None,
    as_json: Json = False,
) -> None:
    """Classify recordings: one row per clip, with label and confidence."""
    import logging

    from glt.steps import predict

    if out is not None:
        predict.PREDICTIONS.check(out)
    answers, rejected = predict.predict(recordings, model)
    for row in rejected.itertuples():
        logging.getLogger(__name__).warning("%s: rejected, %s: %s", row.source, row.check, row.reason)
    if out is not None:
        predict.PREDICTIONS.write(out, csv_bytes(answers))
    if as_json:
        print_json({"clips": answers.to_dict("records"), "rejected": rejected.to_dict("records")})
    elif out is None:
        rows = answers.itertuples(index=False)
        print_table(list(answers.columns), [(str(row.clip), str(row.label), f"{row.confidence:.3f}") for row in rows])


@app.command(rich_help_panel=PANEL)
def serve(
    model: Annotated[str, typer.Argument(help=ANY_MODEL)] = "",
    port: Annotated[int, typer.Option(help="TCP port on 127.0.0.1; if taken, the next free one.")] = 5001,
) -> None:
    """Answer over HTTP with MLflow's model server: POST clips to /invocations."""
    from glt import settings
    from glt.lifecycle import answers, model_version, private_folders, registry

    version = registry.find(model or registry.only_model())
    files = model_version.fetch(version)  # verified, and nobody else can change it
    address, port = str(files.mlflow_folder()), next_free(port)
    private_folders.keep_across_exec(files.root)
    print(f"{version.name} v{version.version} on http://127.0.0.1:{port}/invocations, Ctrl-C ends it", flush=True)
    os.environ[settings.TRACKING_URI] = settings.store_uri()
    answers.become_model_server(address, port)


def become_mlflow(*arguments: str) -> None:
    """Replace this process by the `mlflow` command, so that a signal to it reaches MLflow's server."""
    tools = Path(sys.executable).parent  # MLflow starts its server by name
    os.environ["PATH"] = f"{tools}{os.pathsep}{os.environ['PATH']}"
    os.environ.setdefault("MLFLOW_SERVER_ENABLE_JOB_EXECUTION", "false")  # its workers print tracebacks on Ctrl-C
    os.execv(sys.executable, [sys.executable, "-m", "mlflow", *arguments])
