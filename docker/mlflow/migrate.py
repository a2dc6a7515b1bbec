"""Bring the database to this MLflow's tables, and the administrator's password to the one in .env.

Does nothing to a database that is up to date. Safe to repeat.
"""

import os

from mlflow.server.auth.config import read_auth_config
from mlflow.server.auth.sqlalchemy_store import SqlAlchemyStore
from mlflow.store.db import utils


def main() -> None:
    """Upgrade MLflow's tables, make or upgrade those of its users, set the administrator's password."""
    engine = utils.create_sqlalchemy_engine_with_retry(os.environ["MLFLOW_BACKEND_STORE_URI"])
    if utils._is_empty_database(engine):
        utils._initialize_tables(engine)
    else:
        utils._upgrade_db(engine)

    config = read_auth_config()
    users = SqlAlchemyStore()
    users.init_db(config.database_uri)
    if not users.has_user(config.admin_username):
        users.create_user(config.admin_username, config.admin_password, is_admin=True)
    elif not users.authenticate_user(config.admin_username, config.admin_password):
        users.update_user(config.admin_username, password=config.admin_password)
        print("the administrator's password is now the one in .env")
    print("the database is up to date")


if __name__ == "__main__":
    main()
