"""Create the account for jobs in MLflow's table of users.

    python -m intertitle.training.tracking.server.account

reads the environment that `tracking.server.serve` sets for it. If the account exists, its password
is updated; it never becomes an admin.
"""

from __future__ import annotations

import os

from mlflow.server.auth.config import read_auth_config
from mlflow.server.auth.sqlalchemy_store import SqlAlchemyStore

from intertitle.training.tracking.server.serve import ACCOUNT, ACCOUNT_PASSWORD


def main() -> None:
    """Create the account, or update its password."""
    users = SqlAlchemyStore()
    users.init_db(read_auth_config().database_uri)
    name, password = os.environ[ACCOUNT], os.environ[ACCOUNT_PASSWORD]
    if not users.has_user(name):
        users.create_user(name, password, is_admin=False)
    elif not users.authenticate_user(name, password):
        users.update_user(name, password=password)


if __name__ == "__main__":
    main()
