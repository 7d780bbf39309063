"""Signs a version that is registered already: after a change of keys, or if it was registered without one."""

from __future__ import annotations

from glt import settings
from glt.errors import GltError
from glt.lifecycle import registry
from glt.lifecycle.connection import connect, wrap_mlflow_errors
from glt.lifecycle.model_files import create_version, log_model, signer, upload_signature
from glt.lifecycle.model_version import Version
from glt.serving import signature
from glt.serving.keys import signing_key


@wrap_mlflow_errors
def sign(model: str) -> Version:
    """Verify a version as if to load it, and put a signature by the key in GLT_SIGNING_KEY beside its files.

    A version that was registered before there were digests of the whole folder is registered anew: its classifier, with
    all its evidence, becomes the newest version.

    Args:
        model: ``name/version``, ``name@alias``, or a name for its champion.

    Returns:
        The signed version.

    Raises:
        GltError: no key is set, or the version's files are not what was registered.
    """
    key = signing_key()
    if key is None:
        raise GltError(f"{settings.SIGNING_KEY} is not set; make a pair of keys: glt new-key FOLDER")
    version, client = registry.find(model), connect()
    with version.fetched() as files:
        if not files.is_whole:
            kept = {name: value for name, value in version.tags.items() if not name.startswith("promoted.")}
            reason = client.get_model_version(version.name, version.version).description or ""
            logged = log_model(client, files.classifier, version.name, version.run_id)
            number = create_version(client, version.name, logged.model, kept | logged.tags, reason)
            return registry.find(f"{version.name}/{number}")
        folder = files.mlflow_folder()
        signature.sign(folder)
        upload_signature(client, files.model.model_id, folder)
    for tag, value in signer(key.short_id).items():
        client.set_model_version_tag(version.name, version.version, tag, value)
    return registry.find(f"{version.name}/{version.version}")
