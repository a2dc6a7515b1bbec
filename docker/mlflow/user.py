"""Manage team members: user.py add|reset|remove|approver|member NAME.

add creates a member, reset sets a new password, approver lets a member promote models, member revokes that.

The password is the first line of standard input; if it is empty, a random one is used and printed.
"""

import os
import secrets
import sys
from typing import Any

import requests  # MLflow's own client of these routes takes eight seconds to import

SERVER = os.environ.get("MLFLOW_TRACKING_URI", "http://127.0.0.1:5000")
WORKSPACE = "default"
SHORTEST = 12  # characters, required by MLflow
TIMEOUT = 120  # seconds
EXPLAINED = {
    "RESOURCE_ALREADY_EXISTS": "there is one already; DO=reset gives a new password",
    "RESOURCE_DOES_NOT_EXIST": "there is no such user",
}


class Refused(Exception):
    """What the server answered, in one line."""


def call(method: str, path: str, **arguments: Any) -> Any:
    """Send a request as the administrator and return the JSON of the answer, None if it is empty."""
    login = os.environ["MLFLOW_AUTH_ADMIN_USERNAME"], os.environ["MLFLOW_AUTH_ADMIN_PASSWORD"]
    try:
        answer = requests.request(method, f"{SERVER}/api/{path}", auth=login, timeout=TIMEOUT, **arguments)
    except requests.RequestException as error:
        raise Refused(f"{SERVER} does not answer: {error}") from error
    try:
        content = answer.json() if answer.text.strip() else None
    except ValueError:
        content = {"message": f"{SERVER} answered {answer.status_code}: {answer.text}"}
    if answer.ok:
        return content
    refusal = content or {"message": f"{SERVER} answered {answer.status_code}"}
    raise Refused(EXPLAINED.get(refusal.get("error_code", "")) or refusal["message"].splitlines()[0])


def set_role(action: str, name: str) -> str:
    """Let a member promote models, or no longer; return what the member may do now."""
    approver = roles()["approver"]
    held = [role["id"] for role in call("GET", "3.0/mlflow/users/roles/list", params={"username": name})["roles"]]
    change = {"username": name, "role_id": approver}
    if action == "approver" and approver not in held:
        call("POST", "3.0/mlflow/roles/assign", json=change)
    if action == "member" and approver in held:
        call("DELETE", "3.0/mlflow/roles/unassign", json=change)
    return f"{name} may {'promote models' if action == 'approver' else 'promote no models'}"


def roles() -> dict[str, int]:
    """Name of each role -> its number."""
    listed = call("GET", "3.0/mlflow/roles/list", params={"workspace": WORKSPACE})["roles"]
    return {role["name"]: role["id"] for role in listed}


def set_password(action: str, name: str) -> str:
    """Create a member or give one a new password; return both as they are printed."""
    given = sys.stdin.readline().rstrip("\n")
    if given and len(given) < SHORTEST:
        raise Refused(f"a password needs {SHORTEST} characters or more; this one has {len(given)}")
    password = given or secrets.token_urlsafe(18)
    user = {"username": name, "password": password}
    if action == "add":
        member = roles()["member"]
        call("POST", "2.0/mlflow/users/create", json=user)
        call("POST", "3.0/mlflow/roles/assign", json={"username": name, "role_id": member})
    else:
        call("PATCH", "2.0/mlflow/users/update-password", json=user)
    return f"user      {name}\npassword  {'as you typed it' if given else password}"


def main(action: str, name: str) -> int:
    """Carry out an action and print the result.

    Returns:
        Exit code: 0, or 1 if the server or the check of the password refused.
    """
    try:
        if action == "remove":
            call("DELETE", "2.0/mlflow/users/delete", json={"username": name})
            print(f"{name} is removed")
        elif action in ("approver", "member"):
            print(set_role(action, name))
        else:
            print(set_password(action, name))
    except Refused as refused:
        print(f"{name}: {refused}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], sys.argv[2]))
