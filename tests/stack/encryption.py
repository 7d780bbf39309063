"""The Secret `backup-encryption`, as docs/cluster.md has it made."""

from __future__ import annotations

import subprocess

from infra.local.servers import find_program

PLAIN = {"RCLONE_CONFIG_BACKUP_TYPE": "alias", "RCLONE_CONFIG_BACKUP_REMOTE": "/backup"}


def secret(key: str) -> dict[str, str]:
    """The Secret for a key, which rclone reads in a form of its own."""
    rclone = find_program("rclone")
    assert rclone is not None
    done = subprocess.run([rclone, "obscure", "-"], input=key, capture_output=True, text=True, check=True)
    return {
        "RCLONE_CONFIG_BACKUP_TYPE": "crypt",
        "RCLONE_CONFIG_BACKUP_REMOTE": "/backup/encrypted",
        "RCLONE_CONFIG_BACKUP_PASSWORD": done.stdout.strip(),
    }
