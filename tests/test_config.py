"""config.py: defaults, where settings are read from, and how a wrong one is refused."""

import runpy
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from clean_environment import ROOT

from config import EXPECTED

LIVE = "https://november7-730026606190.europe-west1.run.app/"
SECRET = "x" * 32
DATABASE = "postgresql://movies:secret@db/movies"
IN_PRODUCTION = {"MOVIES_CONFIG": "production", "JWT_SECRET_KEY": SECRET, "DATABASE_URL": DATABASE}


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    """Reads config.py in an environment with these settings; returns the selected class."""

    def read(**settings: str) -> Any:
        for name, value in settings.items():
            monkeypatch.setenv(name, value)
        config = runpy.run_path(str(ROOT / "config.py"))
        return config["CONFIGS"][config["MOVIES_CONFIG"]]

    monkeypatch.delenv("MOVIES_CONFIG")
    return read


@pytest.mark.parametrize(
    ("name", "default"),
    [
        ("DATABASE_URL", ""),
        ("REDIS_URL", ""),
        ("NOVEMBER7_URL", ""),
        ("NOVEMBER7_TTL", 3600),
        ("NOVEMBER7_STALE", 604800),
        ("NOVEMBER7_CACHE_BYTES", 268435456),
        ("NOVEMBER7_DEADLINE", 10.0),
        ("NOVEMBER7_CONCURRENCY", 8),
        ("JWT_ACCESS_TOKEN_EXPIRES", 900),
        ("JWT_REFRESH_TOKEN_EXPIRES", 2592000),
        ("TRUSTED_PROXIES", 0),
        ("PUBLIC_URL", ""),
        ("RATELIMIT_ENABLED", True),
        ("CORS_ORIGINS", []),
        ("HOST", "127.0.0.1"),
        ("PORT", 8000),
        ("INSTANCE_DIR", ROOT / "instance"),
    ],
)
def test_development_has_the_documented_defaults(
    read: Callable[..., Any], name: str, default: Any
) -> None:
    assert getattr(read(), name) == default


def test_production_listens_everywhere_and_asks_the_live_provider(
    read: Callable[..., Any],
) -> None:
    production = read(**IN_PRODUCTION)
    everywhere = "::" if socket.has_dualstack_ipv6() else "0.0.0.0"
    assert everywhere == production.HOST
    assert production.NOVEMBER7_URL == LIVE


@pytest.mark.parametrize("name", ["production", "development"])
def test_the_provider_can_be_set_in_every_configuration(
    read: Callable[..., Any], name: str
) -> None:
    url = "http://provider.example/"
    config = read(**{**IN_PRODUCTION, "MOVIES_CONFIG": name, "NOVEMBER7_URL": url})
    assert url == config.NOVEMBER7_URL


@pytest.mark.parametrize(
    ("name", "values"),
    {
        "MOVIES_CONFIG": ["prod", "Production", "../x"],
        "INSTANCE_DIR": [str(ROOT / "README.md"), str(ROOT / "README.md" / "x"), "/proc/x"],
        "DATABASE_URL": [
            "nonsense",
            "mysql://user@host/movies",
            "postgresql+asyncpg://user@host/movies",
            "postgresql://user@host:port/movies",
            "postgresql:/movies",
            "sqlite://",  # in memory: migrations and each process would have their own
            "sqlite:///:memory:",
            "sqlite:////tmp/movies.sqlite3?timeout=soon",
            "postgresql://user@host/movies?connect_timeout=2&prepare_threshold=x",
        ],
        "REDIS_URL": [
            "foo",
            "http://host",
            "unix:run/redis.sock",
            "redis://host:port",
            "redis://host:99999",
            "redis:x",
            "redis://host?unknown=1",
            "redis://host?socket_timeout=soon",
            "redis://host?protocol=9",
            "rediss://host?ssl_cert_reqs=perhaps",
            "unix:///run/redis.sock?db=x",
        ],
        "NOVEMBER7_URL": [
            "provider.example",
            "ftp://provider.example",
            "http://",
            "http:///movies",
            "http://provider.example/?key=1",
            "http://provider.example/#top",
            "http://provider.example:99999/",
        ],
        "NOVEMBER7_TTL": ["soon", "0", "", "1.5", "99999999999"],
        "NOVEMBER7_STALE": ["-1"],
        "NOVEMBER7_CACHE_BYTES": ["1000", "64M"],
        "NOVEMBER7_DEADLINE": ["0", "nan", "inf", "601"],
        "NOVEMBER7_CONCURRENCY": ["0"],
        "JWT_ACCESS_TOKEN_EXPIRES": ["-5"],
        "JWT_REFRESH_TOKEN_EXPIRES": ["0"],
        "TRUSTED_PROXIES": ["-1", "x"],
        "PUBLIC_URL": [
            "movies.example.com",
            "https://movies.example.com/?a=b",
            "https://movies.example.com/#a",
            "https://user@movies.example.com",
            "https://b\u00fccher.example",
            "https://movies.example.com/caf\u00e9",
            "https://movies.example.com:99999",
            "https://[:::1]",
        ],
        "RATELIMIT_ENABLED": ["perhaps"],
        "CORS_ORIGINS": [
            "example.com",
            "*",
            "null",
            "https://*.example.com",
            "https://app.example.com/",
            "https://app.example.com/path",
            "https://App.example.com",
            "https://app.example.com, *",
            r"https://app\.example\.com",
            "https://.*",
            "http://::1",
            "http://[::1]:3000/",
            "http://[2001:DB8::1]",
            "http://[2001:db8:0::1]",
            "http://[:::1]",
            "https://app.example.com:443",
            "http://localhost:80",
            "http://localhost:03000",
            "http://localhost:99999",
            "https://app.example.com, https://b\u00fccher.example",
        ],
        "HOST": ["two words", "http://127.0.0.1"],
        "PORT": ["0", "65536", "http"],
        "WEB_CONCURRENCY": ["0", "257", "many"],
        "REVISION": ["two words"],
    }.items(),
)
def test_a_wrong_setting_is_refused_with_its_name(
    read: Callable[..., Any], name: str, values: list[str]
) -> None:
    for value in values:
        with pytest.raises(SystemExit) as refused:
            read(**{name: value})
        assert refused.value.code == f"Error: {name} must {EXPECTED[name]}"


@pytest.mark.parametrize(
    ("name", "values"),
    {
        "DATABASE_URL": [
            "postgres://user:p%40ss@host:5432/movies?sslmode=require",
            "postgresql+psycopg://user@[::1]:5432/movies",
            "postgresql://user@/movies?host=a:5432&host=b:5432&target_session_attrs=read-write",
            "postgresql://user@host/movies?options=-c%20statement_timeout%3D3s&prepare_threshold=0",
            "sqlite:////tmp/with space.sqlite3",
            "sqlite:////tmp/movies.sqlite3?timeout=2",
            "sqlite:////tmp/movies.sqlite3?timeout=0.2",
        ],
        "REDIS_URL": [
            "redis://:secret@host:6379/0?health_check_interval=30&socket_keepalive=yes",
            "rediss://host",
            "unix:///run/redis.sock?db=1",
        ],
        "NOVEMBER7_URL": ["https://user:secret@provider.example:8443/api/", "http://[::1]:8007"],
        "PUBLIC_URL": ["https://movies.example.com/base", "https://xn--bcher-kva.example:8443"],
        "CORS_ORIGINS": [
            *("http://localhost:3000", "capacitor://localhost", "http://[::1]:3000"),
            *("http://web_app:3000", "http://localhost:443", "https://localhost:80"),
            "https://xn--bcher-kva.example",
        ],
        "HOST": ["::1", "0.0.0.0", "movies.internal"],
    }.items(),
)
def test_every_form_of_a_url_is_accepted(
    read: Callable[..., Any], name: str, values: list[str]
) -> None:
    for value in values:
        accepted = getattr(read(**{name: value}), name)
        assert accepted == ([value] if name == "CORS_ORIGINS" else value)


def test_origins_are_separated_by_commas_or_spaces(read: Callable[..., Any]) -> None:
    origins = read(CORS_ORIGINS="https://a.example, https://b.example:8443,").CORS_ORIGINS
    assert origins == ["https://a.example", "https://b.example:8443"]


def test_the_public_url_has_no_trailing_slash(read: Callable[..., Any]) -> None:
    assert read(PUBLIC_URL="https://a.example/base/").PUBLIC_URL == "https://a.example/base"


@pytest.mark.parametrize("name", ["JWT_SECRET_KEY", "DATABASE_URL"])
def test_production_requires_a_secret_and_a_database(read: Callable[..., Any], name: str) -> None:
    for value in ("", " "):
        with pytest.raises(SystemExit, match=f"^Error: {name} must be set"):
            read(**{**IN_PRODUCTION, name: value})


@pytest.mark.parametrize("name", ["JWT_SECRET_KEY", "JWT_SECRET_KEY_PREVIOUS"])
def test_keys_in_production_have_32_bytes(read: Callable[..., Any], name: str) -> None:
    for short in ("x" * 31, "é" * 15):
        with pytest.raises(SystemExit, match=f"^Error: {name} must .* 32 bytes"):
            read(**{**IN_PRODUCTION, name: short})
    for long in ("x" * 32, "é" * 16):
        assert getattr(read(**{**IN_PRODUCTION, name: long}), name) == long


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("NOVEMBER7_TLL", "NOVEMBER7_TTL"),
        ("CORS_ORIGIN", "CORS_ORIGINS"),
        ("JWT_SECRET_KEYS_FILE", "JWT_SECRET_KEY"),
    ],
)
def test_a_name_that_is_nearly_a_setting_is_a_warning(
    read: Any, tmp_path: Path, capfd: pytest.CaptureFixture[str], name: str, meant: str
) -> None:
    (tmp_path / "env").write_text(f"{name}=60\n")
    for settings in (
        {"MOVIES_ENV_FILE": str(tmp_path / "env")},
        {"MOVIES_ENV_FILE": "", name: "x"},
    ):
        read(**settings)
        warning = f"Warning: {name} is not a setting. Did you mean {meant}?\n"
        assert capfd.readouterr().err == warning


def test_other_names_are_no_warning(read: Any, capfd: pytest.CaptureFixture[str]) -> None:
    """Those of orchestrators, databases and shells among them."""
    read(HOSTNAME="x", VERSION="x", PORTS="x", REDIS_PORT="x", MOVIES_PORT="x", TEST_REDIS_URL="x")
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize("name", ["JWT_SECRET_KEY", "JWT_SECRET_KEY_PREVIOUS"])
def test_a_short_key_is_a_warning_in_development(
    read: Any, capfd: pytest.CaptureFixture[str], name: str
) -> None:
    assert getattr(read(**{name: "short"}), name) == "short"
    warning = f"Warning: {name} has fewer than 32 bytes, which production refuses\n"
    assert capfd.readouterr().err == warning


def test_every_wrong_setting_is_listed(read: Callable[..., Any]) -> None:
    with pytest.raises(SystemExit) as refused:
        read(PORT="x", REDIS_URL="foo")
    lines = str(refused.value.code).splitlines()
    assert [line.split()[1] for line in lines] == ["REDIS_URL", "PORT"]


def test_a_setting_is_read_from_a_file(read: Callable[..., Any], tmp_path: Path) -> None:
    (tmp_path / "secret").write_text(f"{SECRET}\n")
    config = read(**{**IN_PRODUCTION, "JWT_SECRET_KEY_FILE": str(tmp_path / "secret")})
    assert config.JWT_SECRET_KEY == SECRET


def test_a_file_that_cannot_be_read_is_refused_with_its_name(
    read: Callable[..., Any], tmp_path: Path
) -> None:
    with pytest.raises(SystemExit, match=r"^Error: DATABASE_URL_FILE must be a readable text file"):
        read(DATABASE_URL_FILE=str(tmp_path / "none"))


def test_the_environment_wins_over_the_env_file(read: Callable[..., Any], tmp_path: Path) -> None:
    (tmp_path / "env").write_text("PORT=9001\nNOVEMBER7_TTL=60\n")
    config = read(MOVIES_ENV_FILE=str(tmp_path / "env"), PORT="9002")
    assert (config.PORT, config.NOVEMBER7_TTL) == (9002, 60)


def test_an_env_file_that_cannot_be_read_is_refused(
    read: Callable[..., Any], tmp_path: Path
) -> None:
    with pytest.raises(SystemExit, match=r"^Error: MOVIES_ENV_FILE must be a readable file"):
        read(MOVIES_ENV_FILE=str(tmp_path / "none"))
