"""Commands on registered models: the gate, versions, and which one is in service."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Annotated

import typer

from glt.cli.options import (
    Accelerator,
    Classifier,
    Clips,
    CodeVersion,
    DataVersion,
    Json,
    Model,
    ModelName,
    RecipeName,
    Verdict,
)
from glt.cli.output import print_json, run
from glt.errors import GltError
from glt.text import printable

PANEL = "Registry"
app = typer.Typer()


@app.command(rich_help_panel=PANEL)
def gate(
    clips: Clips,
    classifier: Classifier,
    recipe: RecipeName,
    out: Annotated[Path, typer.Argument(help="JSON file for the verdict.")],
    accelerator: Accelerator = "auto",
    data_version: DataVersion = "",
    code_version: CodeVersion = "",
    as_json: Json = False,
) -> None:
    """Decide whether a classifier may replace the champion, by a paired test on the same clips."""
    from glt.lifecycle.gate import Verdict as Decision
    from glt.steps import gate

    if as_json:
        run(as_json, gate.gate, clips, classifier, recipe, out, accelerator, data_version, code_version)
        return
    gate.gate(clips, classifier, recipe, out, accelerator, data_version, code_version)
    print(printable(Decision.read(out).summary()))
    print(printable(f"the verdict is in {out}"))


@app.command(rich_help_panel=PANEL)
def register(
    classifier: Classifier,
    verdict: Verdict,
    recipe: RecipeName,
    data_version: DataVersion = "",
    code_version: CodeVersion = "",
    as_json: Json = False,
) -> None:
    """Register a classifier as challenger, with the gate's verdict; print its version."""
    from glt.steps import release

    run(as_json, release.register, classifier, verdict, recipe, data_version, code_version)


@app.command(rich_help_panel=PANEL)
def promote(
    model: Model,
    because: Annotated[str, typer.Option(help="The reason, kept in the history.")],
    force: Annotated[
        bool,
        typer.Option("--force", help="Promote even if the gate failed or the champion changed; files are verified."),
    ] = False,
) -> None:
    """Make a version the champion by hand; the pipeline does so when the gate passes."""
    from glt.lifecycle import registry

    version = registry.find(model)
    if not force and version.tags.get("gate.passed") != "True":
        raise GltError(f"{model}: the gate did not pass it (`make ui` says why); --force promotes it nevertheless")
    expected = None if force else version.compared_champion
    registry.promote(version.name, version.version, f"by hand: {because}", expected_champion=expected)
    print(f"{version.name} v{version.version} is champion")


@app.command(rich_help_panel=PANEL)
def rollback(
    name: ModelName, because: Annotated[str, typer.Option(help="The reason, kept in the history.")] = ""
) -> None:
    """Make the previous champion the champion again."""
    from glt.lifecycle import registry

    version = registry.rollback(name, because)
    print(f"{name} v{version.version} is champion again")


@app.command(rich_help_panel=PANEL)
def history(name: ModelName, as_json: Json = False) -> None:
    """List every change of the champion, oldest first: when, by whom and why."""
    from dataclasses import asdict

    from rich.padding import Padding
    from rich.text import Text

    from glt.console import cell, console
    from glt.lifecycle import registry

    events = registry.history(name)
    if as_json:
        print_json([asdict(event) for event in events])
        return
    screen = console()
    for event in events:
        at = event.at.partition("+")[0].replace("T", " ")
        change = f"{f'v{event.replaced} → ' if event.replaced else ''}v{event.version} {event.action}"
        line = Text.assemble(f"{cell(at)} UTC  ", (cell(change), "bold"), f" by {cell(event.by)}")
        screen.print(line, soft_wrap=True)
        screen.print(Padding(cell(event.reason), (0, 0, 0, 4)))


@app.command("new-key", rich_help_panel=PANEL)
def new_key(
    folder: Annotated[Path, typer.Argument(help="Folder to write signing.pem and verifying.pem to.")],
) -> None:
    """Make a pair of keys: one signs models that are registered, the other verifies them before they are loaded."""
    from glt import settings
    from glt.serving import keys

    private, public, key = keys.new_keys(folder)
    secret, shared = (shlex.quote(printable(str(file.absolute()))) for file in (private, public))
    print(f"key {key.short_id}")
    print(f"export {settings.SIGNING_KEY}={secret}     # secret: only where models are registered")
    print(f"export {settings.VERIFYING_KEYS}={shared} # wherever models are loaded")


@app.command(rich_help_panel=PANEL)
def sign(model: Model) -> None:
    """Sign a version anew with the key in GLT_SIGNING_KEY, after its files have been verified."""
    from glt.lifecycle import signing

    version = signing.sign(model)
    print(f"{version.name} v{version.version} is signed by key {version.tags['model.signed_by']}")


@app.command("lineage", rich_help_panel=PANEL)
def trace(
    model: Annotated[str, typer.Argument(help="NAME/VERSION, NAME@ALIAS, or NAME for its champion.")] = "",
    data: Annotated[
        str, typer.Option(help="Instead: a data version, git revision, file in data/, or s3:// of a delivered object.")
    ] = "",
) -> None:
    """Print where a model comes from, or which runs and models used given recordings."""
    from rich.console import Console

    from glt.lifecycle import lineage

    if bool(model) == bool(data):
        raise GltError("lineage: give a model, or --data, and not both")
    tree = lineage.trace_model(model, Path.cwd()) if model else lineage.trace_data(data, Path.cwd())
    Console(highlight=False, emoji=False).print(tree)  # its labels are escaped where they are made
