# moto, which speaks S3 as a bucket of a provider would; its context is the project's folder.
FROM python:3.13-slim-trixie
COPY constraints.txt /opt/
RUN python -m venv /opt/moto && /opt/moto/bin/pip install --no-cache-dir --constraint /opt/constraints.txt \
        "moto[s3]" flask flask-cors
USER nobody
CMD ["/opt/moto/bin/moto_server", "--host", "0.0.0.0", "--port", "5000"]
