FROM python:3.14-slim-trixie AS build

WORKDIR /build
RUN python -m venv /opt/venv
COPY requirements.txt .
RUN /opt/venv/bin/pip install --no-cache-dir --require-hashes -r requirements.txt


FROM python:3.14-slim-trixie

# HOME is where gunicorn would put its control socket: /tmp can be written to where / can't.
ENV PATH=/opt/venv/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    HOME=/tmp \
    MOVIES_CONFIG=production \
    INSTANCE_DIR=/var/lib/movies \
    PORT=8000

WORKDIR /app
COPY --from=build /opt/venv /opt/venv
COPY wsgi.py config.py gunicorn.conf.py ./
COPY migrations migrations
COPY movies movies

# The only place besides /tmp that is written to, so that the root file system can be read-only.
RUN install -d -m 0700 -o 10001 -g 10001 /var/lib/movies
VOLUME /var/lib/movies
USER 10001:10001
EXPOSE 8000

# The empty ProxyHandler: no proxy of the environment must get the probe.
HEALTHCHECK --interval=10s --timeout=5s --start-period=30s CMD ["python", "-c", "\
import os, urllib.request as r; \
r.build_opener(r.ProxyHandler({})).open(\
'http://127.0.0.1:' + os.environ['PORT'] + '/health/live', timeout=4)"]

# Migrations are a step of their own, before a rollout: `flask --app wsgi db upgrade`.
CMD ["gunicorn", "wsgi:app"]
