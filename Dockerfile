FROM python:3.14-slim-trixie@sha256:51dafde81dbdb6ebde285137a295cf18a47ca95234fe388a343719cb97305b3d AS build

# The environment has no pip of its own: the running image installs nothing.
WORKDIR /build
RUN python -m venv --without-pip /opt/venv
COPY requirements.txt .
RUN python -m pip --python /opt/venv/bin/python install --no-cache-dir --require-hashes -r requirements.txt


FROM python:3.14-slim-trixie@sha256:51dafde81dbdb6ebde285137a295cf18a47ca95234fe388a343719cb97305b3d

# HOME is where gunicorn would put its control socket. /tmp is writable, / is not.
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
RUN python -m pip uninstall --yes --root-user-action ignore pip \
    && install -d -m 0700 -o 10001 -g 10001 /var/lib/movies
VOLUME /var/lib/movies
USER 10001:10001
EXPOSE 8000

# The commit that the image was built from. `/health/live` reports it.
ARG REVISION=""
ENV REVISION=$REVISION
LABEL org.opencontainers.image.title="Movies API" \
      org.opencontainers.image.description="Search the movies of November 7, and vote on them" \
      org.opencontainers.image.revision=$REVISION

# The empty ProxyHandler: the probe must not go through a proxy of the environment.
HEALTHCHECK --interval=10s --timeout=5s --start-period=30s CMD ["python", "-c", "\
import os, urllib.request as r; \
r.build_opener(r.ProxyHandler({})).open(\
'http://127.0.0.1:' + os.environ['PORT'] + '/health/live', timeout=4)"]

# Migrations are a step of their own, before a rollout: `flask --app wsgi db upgrade`.
CMD ["gunicorn", "wsgi:app"]
