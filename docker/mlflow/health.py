"""Health check: exit with 0 if the server answers a query that needs a login and the database."""

import base64
import json
import os
import urllib.request

URL = "http://127.0.0.1:5000/api/2.0/mlflow/experiments/search"
LOGIN = f"{os.environ['MLFLOW_AUTH_ADMIN_USERNAME']}:{os.environ['MLFLOW_AUTH_ADMIN_PASSWORD']}"

request = urllib.request.Request(
    URL,
    data=json.dumps({"max_results": 1}).encode(),
    headers={
        "Authorization": "Basic " + base64.b64encode(LOGIN.encode()).decode(),
        "Content-Type": "application/json",
    },
)
with urllib.request.urlopen(request, timeout=8) as response:
    json.load(response)
