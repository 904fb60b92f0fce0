"""The examples of the guide, executed to their end.

Those that show how to retry meet real failures. Time runs a hundred times as fast for them.
"""

import re
import shutil
import sys
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest
import time_machine
from examples import bash, code_in, executed, output_of
from flask import Flask
from helpers import counted, eventually

from stand_in.server import Faults, StandIn

GUIDE = Path(__file__).parents[1] / "movies/manual.md"
EXAMPLE_URL = "https://movies.example.com"
pytestmark = [
    pytest.mark.slow,
    pytest.mark.parametrize("database_url", ["sqlite"], indirect=True),
]

# Programs that continue the examples: two requests that succeed later, one that never does, and
# one for which the user has to sign in again.
PYTHON = """
import time
sleep = time.sleep
time.sleep = lambda seconds: (print("slept", seconds), sleep(seconds / 100))
{examples}
for query in ("alien", "heat", "jaws", "inception"):
    try:
        print("found", send("GET", "/movies/", params={{"query": query}})["count"])
    except requests.HTTPError as error:
        print("gave up", error.response.status_code)
"""
JAVASCRIPT = """
function setTimeout(done, milliseconds) {{
  console.log("slept", milliseconds / 1000);
  globalThis.setTimeout(done, milliseconds / 100);
}}
{examples}
for (const query of ["alien", "heat", "jaws", "inception"]) {{
  try {{
    console.log("found", (await request("GET", `/movies/?query=${{query}}`)).count);
  }} catch (error) {{
    console.log("gave up", error.status);
  }}
}}
"""


class Story:
    """Middleware that notes the status of each response, and then does what belongs to it.

    `effects`: what to do after a response, by its number.
    """

    def __init__(self, app: Any, effects: dict[int, Callable[[], Any]]) -> None:
        self._app, self._effects = app, effects
        self.statuses: list[int] = []

    def __call__(self, environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        def note(status: str, *args: Any) -> Any:
            self.statuses.append(int(status[:3]))
            self._effects.get(len(self.statuses), lambda: None)()
            return start_response(status, *args)

        return self._app(environ, note)  # type: ignore[no-any-return]


@pytest.fixture
def app(make_app: Callable[..., Flask], stand_in: StandIn) -> Flask:
    """The application with rate limits and the stand-in as its provider."""
    return make_app(RATELIMIT_ENABLED=True, NOVEMBER7_URL=stand_in.url, NOVEMBER7_DEADLINE=3.0)


@pytest.fixture
def story(app: Flask, stand_in: StandIn, clock: time_machine.Traveller) -> Iterator[Story]:
    """The first example succeeds. Then each failure occurs, and its cause ends once it was sent."""

    def use_up_the_limit() -> None:
        clock.shift(20 * 60)  # the access token expires
        for _ in range(1200):
            app.extensions["rate_limits"].hit({"api:user-1": 0})

    def provider(**faults: float) -> Callable[[], None]:
        def change() -> None:
            stand_in.faults = Faults(**faults)  # type: ignore[arg-type]
            assert eventually(lambda: counted("november7_bulkhead_in_use") == 0)

        return change

    story = Story(
        app.wsgi_app,
        {
            5: use_up_the_limit,
            8: lambda: clock.shift(60),
            9: provider(hang=1),
            10: provider(),
            11: provider(refuse=1),
            12: provider(),
            13: provider(refuse=1),
            17: lambda: clock.shift(31 * 24 * 3600),  # the refresh token expires
        },
    )
    app.wsgi_app, original = story, app.wsgi_app  # type: ignore[method-assign]
    yield story
    app.wsgi_app = original  # type: ignore[method-assign]


STATUSES = [
    *(201, 200, 200, 201, 200),  # register, sign in, search, vote, search
    *(401, 200, 429, 200),  # expired, refreshed, limited, repeated
    *(504, 200),
    *(503, 200),
    *(503, 503, 503, 503),
    *(401, 401),  # both tokens have expired
]


def check(printed: str, story: Story) -> None:
    """The examples did what the guide says, and nothing else."""
    assert story.statuses == STATUSES
    assert re.search(r"rating_type['\"]?: ['\"]UPVOTE", printed), printed
    lines = [line for line in printed.splitlines() if re.match(r"slept|found|gave up", line)]
    outcome = [line if "gave up" in line else line.split()[0] for line in lines]
    assert lines[:2] == ["slept 60", "slept 5"]
    assert outcome == [
        *("slept", "slept", "found", "slept", "found"),
        *("slept", "slept", "slept", "gave up 503", "gave up 401"),
    ]


def test_the_curl_example_works(url: str) -> None:
    (script,) = executed(GUIDE)
    printed = bash(script.replace(EXAMPLE_URL, url))
    assert '"my_rating":{"id":1,"rating_type":"UPVOTE"}' in printed


@pytest.mark.usefixtures("no_backoff")
def test_the_python_examples_refresh_and_wait(story: Story, url: str) -> None:
    program = PYTHON.format(examples=code_in(GUIDE, "python").replace(EXAMPLE_URL, url))
    check(output_of(sys.executable, "-c", program), story)


@pytest.mark.usefixtures("no_backoff")
def test_the_javascript_examples_refresh_and_wait(story: Story, url: str, tmp_path: Path) -> None:
    if (node := shutil.which("node")) is None:
        pytest.skip("Node.js is not installed")
    program = tmp_path / "guide.mjs"
    program.write_text(JAVASCRIPT.format(examples=code_in(GUIDE, "js").replace(EXAMPLE_URL, url)))
    check(output_of(node, program), story)
