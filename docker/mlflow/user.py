"""Manage team members: user.py add|reset|remove|approver|member NAME.

add creates a member, reset sets a new password, approver lets a member promote models, member revokes that.

The password is the first line of standard input; if it is empty, a random one is used and printed.
"""

import os
import secrets
import sys

from mlflow import MlflowException
from mlflow.server import get_app_client

SERVER = os.environ.get("MLFLOW_TRACKING_URI", "http://127.0.0.1:5000")
WORKSPACE = "default"
SHORTEST = 12  # characters, required by MLflow


def main(action: str, name: str) -> int:
    """Carry out an action and print the result.

    Returns:
        Exit code: 0, or 1 if the server or the check of the password refused.
    """
    os.environ["MLFLOW_TRACKING_USERNAME"] = os.environ["MLFLOW_AUTH_ADMIN_USERNAME"]
    os.environ["MLFLOW_TRACKING_PASSWORD"] = os.environ["MLFLOW_AUTH_ADMIN_PASSWORD"]
    client = get_app_client("basic-auth", tracking_uri=SERVER)
    try:
        if action == "remove":
            client.delete_user(name)
            print(f"{name} is removed")
            return 0
        roles = {role.name: role.id for role in client.list_roles(WORKSPACE)}
        if action in ("approver", "member"):
            has = [role.id for role in client.list_user_roles(name)]
            if action == "approver" and roles["approver"] not in has:
                client.assign_role(name, roles["approver"])
            if action == "member" and roles["approver"] in has:
                client.unassign_role(name, roles["approver"])
            print(f"{name} may {'promote models' if action == 'approver' else 'promote no models'}")
            return 0
        given = sys.stdin.readline().rstrip("\n")
        if given and len(given) < SHORTEST:
            print(f"a password needs {SHORTEST} characters or more; this one has {len(given)}", file=sys.stderr)
            return 1
        password = given or secrets.token_urlsafe(18)
        if action == "add":
            client.create_user(name, password)
            client.assign_role(name, roles["member"])
        else:
            client.update_user_password(name, password)
    except MlflowException as error:
        explanation = {
            "RESOURCE_ALREADY_EXISTS": "there is one already; DO=reset gives a new password",
            "RESOURCE_DOES_NOT_EXIST": "there is no such user",
        }.get(error.error_code)
        print(f"{name}: {explanation or error.message.splitlines()[0]}", file=sys.stderr)
        return 1
    print(f"user      {name}")
    print(f"password  {'as you typed it' if given else password}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], sys.argv[2]))
