"""The process that atheris runs: `python -m tests.fuzz.guided TARGET KNOWN CORPUS [libFuzzer options]`."""

from __future__ import annotations

import ast
import sys
import tempfile
from pathlib import Path

import atheris

# numba compiles ntu_text and cannot read instrumented code.
_INSTRUMENTED = ["glt.data", "glt.recipe", "glt.text", "glt.yaml_text", "zipfile", "tarfile", "yaml"]
with atheris.instrument_imports(include=_INSTRUMENTED, exclude=["glt.data.formats.ntu_text"]):
    from tests.fuzz import coverage
    from tests.fuzz.outcome import of_exception
    from tests.fuzz.targets import TARGETS


def main(name: str, known: str, *options: str) -> None:
    """Fuzz a target until the time is over or a case breaks an invariant, which a line on stderr names.

    Args:
        name: of the target.
        known: list of the faults that are passed over, as a literal.
        options: of libFuzzer.
    """
    passed_over = ast.literal_eval(known)
    target, sandbox = TARGETS[name], Path(tempfile.mkdtemp())
    target.prepare()

    def run(raw: bytes) -> None:
        try:
            target.check(coverage.TARGETS[name](raw), sandbox)
        except BaseException as error:
            if (fault := of_exception(error))[0] not in passed_over:
                sys.stderr.write(f"FAULT {fault!r}\n")
                raise

    atheris.Setup([sys.argv[0], *options], run)
    atheris.Fuzz()


if __name__ == "__main__":
    main(*sys.argv[1:])
