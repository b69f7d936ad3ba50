"""An account for jobs in MLflow's table of users: made where there is none.

    python -m training.tracking.account

reads the environment of `training.tracking.server`'s child. An account that is there gets the
password that is set; it is never made an admin.
"""

from __future__ import annotations

import os

from mlflow.server.auth.config import read_auth_config
from mlflow.server.auth.sqlalchemy_store import SqlAlchemyStore

from training.tracking.server import ACCOUNT, ACCOUNT_PASSWORD


def main() -> None:
    """Make the account, or set its password."""
    users = SqlAlchemyStore()
    users.init_db(read_auth_config().database_uri)
    name, password = os.environ[ACCOUNT], os.environ[ACCOUNT_PASSWORD]
    if not users.has_user(name):
        users.create_user(name, password, is_admin=False)
    elif not users.authenticate_user(name, password):
        users.update_user(name, password=password)


if __name__ == "__main__":
    main()
