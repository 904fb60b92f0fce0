"""The keys that sign tokens.

The header of a token names the key that signed it. So a key can be replaced without signing anyone
out: new tokens are signed with the new key, and tokens signed with the previous key stay valid.
"""

import hashlib
from functools import cache
from typing import Any

from flask import current_app
from flask_jwt_extended import JWTManager
from jwt import InvalidTokenError


@cache
def key_id(key: str) -> str:
    """The id of a key for the header of a token. The key cannot be derived from it."""
    return hashlib.sha256(b"key id of " + key.encode()).hexdigest()[:16]


def init_app(jwt: JWTManager) -> None:
    """Put the key id into new tokens, and use it to verify tokens."""
    jwt.additional_headers_loader(_name_key)
    jwt.decode_key_loader(_find_key)


def _name_key(_identity: str) -> dict[str, str]:
    return {"kid": key_id(current_app.config["JWT_SECRET_KEY"])}


def _find_key(headers: dict[str, Any], _claims: dict[str, Any]) -> str:
    for setting in ("JWT_SECRET_KEY", "JWT_SECRET_KEY_PREVIOUS"):
        key: str = current_app.config[setting]
        if key and headers.get("kid") == key_id(key):
            return key
    raise InvalidTokenError("signed with an unknown key")
