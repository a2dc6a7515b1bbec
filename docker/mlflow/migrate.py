"""Upgrade the database to this MLflow version, set the administrator's password to that in .env, and assign roles.

A database that is up to date is not changed.
"""

import os

from mlflow.server.auth.config import read_auth_config
from mlflow.server.auth.sqlalchemy_store import SqlAlchemyStore
from mlflow.store.db import utils

from cifar_exp.server import people


def give_roles(users: SqlAlchemyStore) -> None:
    """Create missing roles, and make every user a member."""
    member = people.make_roles(users)[people.MEMBER]
    for user, has in users.list_users_with_roles():
        if not user.is_admin and member.id not in [role.id for role in has]:
            users.assign_role_to_user(user.id, member.id)


def main() -> None:
    """Upgrade MLflow's tables, create or upgrade those of users, set the administrator's password, assign roles."""
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
    give_roles(users)
    print("the database is up to date")


if __name__ == "__main__":
    main()
