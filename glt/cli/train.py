"""Commands that show recipes and train models."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from glt.cli.options import Accelerator, CodeVersion, DataVersion, Encoder, Json, Motions, Out, RecipeName
from glt.cli.output import run

PANEL = "Train"
app = typer.Typer()


@app.command(rich_help_panel=PANEL)
def recipes() -> None:
    """List the recipes that come with the project."""
    from glt import recipe

    for name in recipe.names():
        print(name)


@app.command("model", rich_help_panel=PANEL)
def describe(
    name: RecipeName,
    frames: Annotated[int, typer.Option(help="Count the FLOPs of a clip of this length, too.")] = 0,
) -> None:
    """Print a recipe's model: its modules, their parameters, and the FLOPs of a clip of T_max frames."""
    from glt import recipe
    from glt.analysis import summary
    from glt.console import print_tree

    print_tree(summary.tree(recipe.load(name), frames))


@app.command(rich_help_panel=PANEL)
def pretrain(
    motions: Motions,
    recipe: RecipeName,
    out: Out,
    accelerator: Accelerator = "auto",
    checkpoints: Annotated[Path | None, typer.Option(help="Folder for checkpoints; in GLT_HOME if not given.")] = None,
    save_every: Annotated[float, typer.Option(help="Seconds between two checkpoints.")] = 30.0,
    data_version: DataVersion = "",
    code_version: CodeVersion = "",
    as_json: Json = False,
) -> None:
    """Pretrain an encoder on all training clips without labels; an interrupted run is resumed.

    Runs under torchrun, too.
    """
    from glt.steps import training

    run(
        as_json,
        training.pretrain,
        motions,
        recipe,
        out,
        accelerator,
        checkpoints,
        save_every,
        data_version,
        code_version,
    )


@app.command("linear-probe", rich_help_panel=PANEL)
def linear_probe(
    motions: Motions,
    encoder: Encoder,
    recipe: RecipeName,
    out: Out,
    accelerator: Accelerator = "auto",
    data_version: DataVersion = "",
    code_version: CodeVersion = "",
    as_json: Json = False,
) -> None:
    """Train and evaluate a linear classifier on the frozen encoder."""
    from glt.steps import training

    run(as_json, training.linear_probe, motions, encoder, recipe, out, accelerator, data_version, code_version)


@app.command(rich_help_panel=PANEL)
def finetune(
    motions: Motions,
    encoder: Encoder,
    recipe: RecipeName,
    fraction: Annotated[float, typer.Argument(help="Fraction of the labels of each class, above 0 and at most 1.")],
    seed: Annotated[int, typer.Argument(help="Seed of the labelled subset, the classifier and the order.")],
    out: Out,
    accelerator: Accelerator = "auto",
    tasks_at_once: Annotated[int, typer.Option(help="Number of such tasks that share this machine's cores.")] = 1,
    data_version: DataVersion = "",
    code_version: CodeVersion = "",
    as_json: Json = False,
) -> None:
    """Fine-tune encoder and classifier on a fraction of the labels."""
    from glt.steps import training

    run(
        as_json,
        training.finetune,
        motions,
        encoder,
        recipe,
        fraction,
        seed,
        out,
        accelerator,
        tasks_at_once,
        data_version,
        code_version,
    )
