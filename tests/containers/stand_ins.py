"""Stand-ins for server images that cannot be pulled: the same programs in an image that starts them likewise.

What they show is of the manifests: user, rights, mounts, variables, command and probe. What they cannot show is of the
real images: their versions and what else is in them.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

from tests.containers.engine import Engine

# What the page of the image `postgres` promises: a database at the first start, then a server on every address.
POSTGRES = """#!/bin/sh
set -eu
if [ ! -s "$PGDATA/PG_VERSION" ]; then
    echo "$POSTGRES_PASSWORD" >/tmp/password
    initdb --username="$POSTGRES_USER" --pwfile=/tmp/password --auth-local=trust --auth-host=scram-sha-256
    rm /tmp/password
    echo "host all all all scram-sha-256" >>"$PGDATA/pg_hba.conf"
    echo "CREATE DATABASE $POSTGRES_DB" | postgres --single postgres
fi
exec postgres -c listen_addresses='*'
"""


def debian(
    engine: Engine, name: str, *packages: str, hooks: tuple[str, ...] = (), changes: tuple[str, ...] = ()
) -> None:
    """Make an image of Debian's packages; needs mmdebstrap."""
    command = ["mmdebstrap", "--quiet", "--variant=minbase", f"--include={','.join(packages)}"]
    command += [f"--customize-hook={hook}" for hook in hooks]
    with subprocess.Popen([*command, "bookworm", "-"], stdout=subprocess.PIPE) as made:
        engine("import", *(f"--change={change}" for change in changes), "-", name, stdin=made.stdout)
    assert made.returncode == 0


def postgres(engine: Engine, name: str, folder: Path) -> None:
    """Make Debian's PostgreSQL with the user and the entry point of the image `postgres`."""
    (folder / "entry").write_text(POSTGRES)
    (folder / "entry").chmod(0o755)
    hooks = (
        f"copy-in {folder / 'entry'} /usr/local/bin",
        'chroot "$1" useradd --uid 999 --no-create-home server',
        'chroot "$1" sh -c "ln -s /usr/lib/postgresql/*/bin/* /usr/local/bin"',
    )
    changes = ('ENTRYPOINT ["entry"]', "STOPSIGNAL SIGINT")
    debian(engine, name, "postgresql", hooks=hooks, changes=changes)


def program(engine: Engine, name: str, base: str, program: str) -> None:
    """Make an image of a program of the extra `stack`, which is its entry point, as in the real one."""
    place = shutil.which(program, path=str(Path(sys.executable).parent))
    assert place is not None
    lines = (f"FROM {base}", f"COPY {program} /usr/bin/{program}", f'ENTRYPOINT ["{program}"]')
    engine("build", "--tag", name, "--file", "-", str(Path(place).parent), input="\n".join(lines))
