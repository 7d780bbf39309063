"""Parameters that several commands share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

ACCELERATORS = ("auto", "cpu", "gpu")


def complete_recipe(incomplete: str) -> list[str]:
    """The recipes that begin with `incomplete`."""
    from glt import recipe

    return [name for name in recipe.names() if name.startswith(incomplete)]


def complete_accelerator(incomplete: str) -> list[str]:
    """The accelerators that begin with `incomplete`."""
    return [name for name in ACCELERATORS if name.startswith(incomplete)]


RecipeName = Annotated[
    str, typer.Argument(metavar="RECIPE", help="Name or path of a recipe.", autocompletion=complete_recipe)
]
Clips = Annotated[Path, typer.Argument(help="Folder of clips, from `glt ingest`.")]
Motions = Annotated[Path, typer.Argument(help="Folder of motions, from `glt disentangle`.")]
Encoder = Annotated[Path, typer.Argument(help="Folder of the encoder, from `glt pretrain`.")]
Classifier = Annotated[Path, typer.Argument(help="Folder of the classifier, from `glt linear-probe`.")]
Verdict = Annotated[Path, typer.Argument(help="The gate's verdict, a JSON file.")]
Out = Annotated[Path, typer.Argument(help="Folder or file to write.")]
Accelerator = Annotated[str, typer.Option(help="cpu, gpu or auto.", autocompletion=complete_accelerator)]
DataVersion = Annotated[str, typer.Option(help="DVC md5 of the recordings; taken from the input if not given.")]
CodeVersion = Annotated[str, typer.Option(help="Hash of the source tree; computed if not given.")]
Model = Annotated[str, typer.Argument(help="NAME/VERSION, NAME@ALIAS, or NAME for its champion.")]
ModelName = Annotated[str, typer.Argument(help="Registered model, such as glt-sample-xsub.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON on stdout, and everything else on stderr.")]
