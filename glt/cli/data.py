"""Commands on recordings, clips and motions."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from glt.cli.options import Clips, CodeVersion, DataVersion, Json, Out, RecipeName
from glt.cli.output import print_json, run
from glt.errors import GltError

PANEL = "Data"
app = typer.Typer()


@app.command("data", rich_help_panel=PANEL)
def prepare(
    recordings: Annotated[str, typer.Argument(help="Folder, archive or file; none: what data.dvc pins.")] = "",
    add: Annotated[bool, typer.Option("--add", help="Add them to what data.dvc pins, which need not be here.")] = False,
    as_json: Json = False,
) -> None:
    """Bring data/ to what data.dvc pins, replace it by your recordings, or add a batch; update data.dvc."""
    from glt.lifecycle import recordings as pinned

    root = Path.cwd()
    if add and not recordings:
        raise GltError("data --add: give the recordings to add")
    if not recordings:
        run(as_json, lambda: str(pinned.prepare(root)))
        return
    done = (pinned.add if add else pinned.replace)(root, Path(recordings))
    if as_json:
        print_json({"version": done.version, "pushed": done.pushed, "reason": done.reason})
        return
    print(f"data.dvc pins {done.version}; " + ("DVC's remote has it" if done.pushed else f"not pushed: {done.reason}"))


@app.command(rich_help_panel=PANEL)
def collect(
    address: Annotated[str, typer.Argument(help="s3://bucket/prefix that recordings are delivered to.")],
    recipe: RecipeName,
    into: Annotated[str, typer.Option(help="dvc+<git repository>@<branch> to push to; none: this project.")] = "",
    commit: Annotated[bool, typer.Option("--commit", help="Commit data.dvc here instead of printing it.")] = False,
    as_json: Json = False,
) -> None:
    """Collect new recordings from the landing bucket into data/: check, pack, pin and push them."""
    from glt.steps import collect

    run(as_json, collect.collect, address, recipe, into, commit)


@app.command(rich_help_panel=PANEL)
def ingest(
    recordings: Annotated[str, typer.Argument(help="Folder, archive, file, s3://bucket/prefix or dvc+REPO@REVISION.")],
    recipe: RecipeName,
    out: Out,
    data_version: Annotated[str, typer.Option(help="DVC md5 the recordings must have; computed if not given.")] = "",
    code_version: CodeVersion = "",
    page: Annotated[Path | None, typer.Option(help="HTML page on the recordings; OUT.html if not given.")] = None,
    as_json: Json = False,
) -> None:
    """Read and check recordings; write clips, and a page on rejects, duplicates, leaks and drift."""
    from glt.steps import data

    run(as_json, data.ingest, recordings, recipe, out, data_version, code_version, page)


@app.command(rich_help_panel=PANEL)
def inspect(
    clips: Clips,
    recipe: RecipeName,
    out: Annotated[Path, typer.Argument(help="HTML page to write.")],
    reference: Annotated[str, typer.Option(help="Other clips, or an ingest's summary.json, to compare with.")] = "",
    as_json: Json = False,
) -> None:
    """Write the page on a folder of clips again."""
    from glt.steps import data

    run(as_json, data.inspect, clips, recipe, out, reference)


@app.command(rich_help_panel=PANEL)
def disentangle(
    clips: Clips,
    recipe: RecipeName,
    out: Out,
    data_version: DataVersion = "",
    code_version: CodeVersion = "",
    as_json: Json = False,
) -> None:
    """Separate global translation from local motion, and split the clips by the recipe's protocol."""
    from glt.steps import data

    run(as_json, data.disentangle, clips, recipe, out, data_version, code_version)
