# The team's server as an older MLflow ran it.
FROM python:3.13-slim-trixie
ARG MLFLOW
RUN python -m venv /opt/mlflow && /opt/mlflow/bin/pip install --no-cache-dir \
        "mlflow[auth]==$MLFLOW" "SQLAlchemy==2.0.58" "psycopg2-binary==2.9.11"
RUN printf '%s\n' '[mlflow]' 'database_uri = postgresql://mlflow@db/mlflow' 'default_permission = EDIT' \
        'admin_username = admin' 'admin_password = an-older-password' \
        'authorization_function = mlflow.server.auth:authenticate_request_basic_auth' > /opt/mlflow/basic_auth.ini
COPY older_mlflow.py /opt/mlflow/
ENV PATH=/opt/mlflow/bin:$PATH \
    HOME=/tmp \
    TMPDIR=/var/lib/mlflow/tmp \
    MLFLOW_BACKEND_STORE_URI=postgresql://mlflow@db/mlflow \
    MLFLOW_ARTIFACTS_DESTINATION=/var/lib/mlflow/artifacts \
    MLFLOW_AUTH_CONFIG_PATH=/opt/mlflow/basic_auth.ini \
    MLFLOW_FLASK_SERVER_SECRET_KEY=old \
    MLFLOW_DISABLE_TELEMETRY=true
USER 10001
WORKDIR /tmp
CMD ["mlflow", "server", "--host", "127.0.0.1", "--workers", "1", "--app-name", "basic-auth"]
