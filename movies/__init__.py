"""Movies API: search the movies of November 7 and vote on them. `create_app` is the factory."""

import logging
from collections.abc import Mapping
from typing import Any

from flask import Flask

from config import CONFIGS, MOVIES_CONFIG
from movies import access_log, cli, health, limits, openapi, pages, provider, settings, tracing, web
from movies.auth import tokens
from movies.auth.routes import bp as auth_bp
from movies.error_handlers import register_error_handlers
from movies.extensions import api, db, jwt, migrate
from movies.logs import configure_logging
from movies.movies import service
from movies.movies.registry import record_or_log
from movies.movies.routes import bp as movies_bp
from movies.users.routes import bp as users_bp

log = logging.getLogger(__name__)


def create_app(name: str = MOVIES_CONFIG, overrides: Mapping[str, Any] | None = None) -> Flask:
    """The application in the configuration `name`, with some of its settings overridden."""
    configure_logging()
    app = Flask(__name__, static_folder=None)
    app.config.from_object(CONFIGS[name])
    app.config.update(overrides or {})
    settings.init_app(app)
    web.init_app(app)
    db.init_app(app)
    migrate.init_app(app, db, render_as_batch=True)
    jwt.init_app(app)
    tokens.init_app(app, jwt)
    limits.init_app(app)
    api.init_app(app, spec_kwargs=openapi.outline(app.config))
    openapi.describe(api)
    for blueprint in (users_bp, auth_bp, movies_bp):
        api.register_blueprint(blueprint)
    app.register_blueprint(pages.bp)
    health.init_app(app)
    register_error_handlers(app)
    provider.init_app(app, on_fetch=record_or_log)
    service.init_app(app)
    cli.init_app(app)
    tracing.init_app(app)
    access_log.init_app(app)
    if not cli.is_running():
        log.info("searches are answered by %s", provider.describe(app))
    return app
