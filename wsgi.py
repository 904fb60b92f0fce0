"""The WSGI application object, for gunicorn and the `flask` command."""

from movies import create_app

app = create_app()
