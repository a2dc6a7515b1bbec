"""The end-to-end tests start the program as its users do, and read what it logged with MLflow's own client."""

from __future__ import annotations

import os

os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"  # before anything imports mlflow: these tests stay on this machine
