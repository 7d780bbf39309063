"""Target: each `glt` command with hostile arguments."""

from __future__ import annotations

import contextlib
import io
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from hypothesis import strategies as st

from tests.data import recorded
from tests.fuzz import promises, texts
from tests.fuzz.guards import snapshot
from tests.fuzz.outcome import Broken

# Paths that are in the sandbox, addresses, names of recipes and models.
GIVEN = (
    *("given", "given/S001C001P001R001A001.skeleton", "recipe.yaml", "broken.yaml", "nowhere", "loop", "pipe", "empty"),
    *(
        "given.zip",
        "a folder",
        "notes.txt",
        "/dev/null",
        "/dev/full",
        "/proc/self/mem",
        ".",
        "new/out",
        "manifest.json",
    ),
    *(
        "s3://bucket/prefix",
        "s3://",
        "s3:///x",
        "s3://b/../x",
        "dvc+https://127.0.0.1:9/x@main",
        "dvc+.@HEAD",
        "dvc+@",
        "dvc+--x@y",
    ),
    *(
        "sample",
        "sbu",
        "glt-a-b",
        "glt-a-b/1",
        "glt-a-b@champion",
        "glt-'a'/1",
        "a/b/c",
        "glt-a-b/999999999999999999999999",
    ),
)
_arguments = st.one_of(st.sampled_from(GIVEN), texts.texts.filter(lambda t: "\0" not in t))
_NUMBERS = st.sampled_from(["0", "-1", "1", "0.05", "1e400", "nan", "99999999999999999999", "x", "", "65536", "1e-9"])
_SKIPPED = {"doctor", "ui", "serve"}  # they take seconds, or become a server


class Commands:
    """A command line ends with a known code, the reason last, and changes nothing that is not its own."""

    name, seconds, mib, programs, weight = "commands", 120.0, 2500.0, True, 3.0

    def prepare(self) -> None:
        """Import the commands' steps and make a store of MLflow."""
        from glt.lifecycle import registry, tracking
        from glt.steps import collect, data, gate, models, predict, release, report, training

        assert all((registry, collect, data, gate, models, predict, release, report, training))
        os.environ |= {"AWS_ENDPOINT_URL": "http://127.0.0.1:9", "AWS_ACCESS_KEY_ID": "x", "AWS_SECRET_ACCESS_KEY": "x"}
        os.environ |= {"AWS_MAX_ATTEMPTS": "1", "GIT_TERMINAL_PROMPT": "0", "NO_COLOR": "1"}
        tracking.connect()

    def cases(self) -> Any:
        """Arguments, as typed."""
        import typer

        from glt import cli

        group = typer.main.get_command(cli.app)

        def line(name: str) -> Any:
            command = group.commands[name]  # type: ignore[attr-defined]
            places = [parameter for parameter in command.params if parameter.param_type_name == "argument"]
            options = [parameter for parameter in command.params if parameter.param_type_name == "option"]
            values = st.tuples(
                *[_NUMBERS if parameter.name in ("fraction", "seed") else _arguments for parameter in places]
            )
            option = st.sampled_from(options).flatmap(
                lambda o: (
                    st.just([o.opts[0]]) if o.is_flag else st.one_of(_arguments, _NUMBERS).map(lambda v: [o.opts[0], v])
                )
            )
            more = st.lists(option, max_size=2).map(lambda many: [word for each in many for word in each])
            return st.builds(lambda v, m: [name, *v, *m], values, more if options else st.just([]))

        names = sorted(set(group.commands) - _SKIPPED)  # type: ignore[attr-defined]
        return st.one_of(st.sampled_from(names).flatmap(line), st.lists(_arguments, max_size=4))

    def check(self, case: list[str], sandbox: Path) -> None:
        """Run it in a folder with recordings, a recipe and odd things."""
        from glt import cli

        if any(word in _SKIPPED for word in case[:2]):
            return
        _furnish(sandbox)
        before = snapshot(sandbox)
        code, said = _call(cli.main, case, sandbox)
        if code not in (0, 1, 2, 143):
            raise Broken("commands: another exit code", f"{code!r}: {said[-300:]!r}")
        if "Traceback (most recent call last)" in said:
            raise Broken("commands: a traceback", said[-400:])
        promises.printed(said)
        errors = [line for line in said.splitlines() if line.startswith("glt: error")]
        if code == 1 and (len(errors) != 1 or said.rstrip().splitlines()[-1] != errors[0]):
            raise Broken("commands: the reason is not the last line", said[-400:])
        after = snapshot(sandbox)
        promises.unchanged(before, {path: state for path, state in after.items() if path in before})
        if code != 0 and (
            new := [path for path in after if path not in before and "/runs" not in path and "rejected.csv" not in path]
        ):
            raise Broken("commands: it failed and left files behind", f"{case} {new[:3]}"[:400])


def _furnish(sandbox: Path) -> None:
    recorded.write_folder(sandbox / "given", {"S001C001P001R001A001.skeleton": recorded.one_person(1)})
    recorded.write_zip(sandbox / "given.zip", recorded.delivery(2))
    (sandbox / "recipe.yaml").write_text("extends: sample\n")
    (sandbox / "broken.yaml").write_text("[" * 3000)
    (sandbox / "loop").symlink_to("loop")
    os.mkfifo(sandbox / "pipe")
    (sandbox / "empty").mkdir()
    (sandbox / "a folder").mkdir()
    (sandbox / "a folder" / "notes.txt").write_text("mine")
    (sandbox / "notes.txt").write_text("mine")
    (sandbox / "manifest.json").write_text("[]")


@contextlib.contextmanager
def _caught(sandbox: Path, arguments: list[str]) -> Iterator[io.StringIO]:
    """Both streams, in the sandbox; programs do not take this process's place."""

    def exec_program(*_: Any) -> None:
        raise SystemExit(0)

    output, real, argv, here = io.StringIO(), os.execv, sys.argv, Path.cwd()
    sys.argv, os.execv = ["glt", *arguments], exec_program  # type: ignore[assignment]
    os.chdir(sandbox)
    try:
        with contextlib.redirect_stdout(output), contextlib.redirect_stderr(output):
            yield output
    finally:
        sys.argv, os.execv = argv, real
        os.chdir(here)


def _call(main: Any, arguments: list[str], sandbox: Path) -> tuple[Any, str]:
    with _caught(sandbox, arguments) as output:
        try:
            main()
            code: Any = 0
        except SystemExit as ended:
            code = ended.code or 0
    return code, output.getvalue()
