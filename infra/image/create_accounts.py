"""Create MLflow's accounts, or give them the password that is set now: `create_accounts.py admin pipelines`.

The password of each comes from MLFLOW_PASSWORD_<NAME>; `admin` is the administrator, the others read everything and
change what they made. The database is that of the file MLFLOW_AUTH_CONFIG_PATH names. Runs as an init container of the
MLflow pod, so a password is changed by changing the Secret and restarting the pod.
"""

import os
import sys
from collections.abc import Mapping, Sequence
from typing import Any

from mlflow.exceptions import MlflowException
from mlflow.server.auth.config import read_auth_config
from mlflow.server.auth.sqlalchemy_store import SqlAlchemyStore
from sqlalchemy.exc import SQLAlchemyError

ADMIN = "admin"


def put_accounts(store: Any, names: Sequence[str], passwords: Mapping[str, str]) -> list[str]:
    """Create those accounts that `store` lacks, and return them; the others get their password."""
    made = []
    for name in names:
        if store.has_user(name):
            store.update_user(name, passwords[name], is_admin=name == ADMIN)
        else:
            store.create_user(name, passwords[name], is_admin=name == ADMIN)
            made.append(name)
    return made


def main(names: Sequence[str]) -> str | None:
    """Return None on success, else the message to end with (exit status 1)."""
    variables = {name: f"MLFLOW_PASSWORD_{name.upper()}" for name in names}
    if not names or any(not os.environ.get(variable) for variable in variables.values()):
        return "usage: create_accounts.py NAME..., with the password of each in MLFLOW_PASSWORD_<NAME>"
    store: Any = SqlAlchemyStore()  # MLflow annotates none of its methods
    try:
        store.init_db(read_auth_config().database_uri)
        made = put_accounts(store, names, {name: os.environ[variable] for name, variable in variables.items()})
    except (MlflowException, SQLAlchemyError, KeyError) as error:
        return f"cannot create MLflow's accounts: {error}"
    print(f"accounts created: {', '.join(made) or 'none, all are there'}")
    return None


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
