"""The documentation pages in a real browser: dark on a phone, then light on a desktop."""

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import (
    Browser,
    ConsoleMessage,
    Page,
    Request,
    ViewportSize,
    expect,
    sync_playwright,
)

BROWSER = shutil.which("chromium") or shutil.which("google-chrome")
QUIET = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--disable-dev-shm-usage",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
TIMEOUT = 30_000  # milliseconds: the machine may be busy
CONTRAST = Path(__file__).with_name("contrast.js").read_text()
PHONE: ViewportSize = {"width": 390, "height": 900}
DESKTOP: ViewportSize = {"width": 1280, "height": 900}
pytestmark = [
    pytest.mark.slow,
    pytest.mark.parametrize("database_url", ["sqlite"], indirect=True),
]


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """A headless Chromium."""
    if BROWSER is None:
        pytest.skip("Chromium is not installed")
    with sync_playwright() as playwright:
        running = playwright.chromium.launch(executable_path=BROWSER, args=QUIET)
        yield running
        running.close()


@pytest.fixture
def open_page(browser: Browser, url: str) -> Iterator[Callable[..., Page]]:
    """Opens pages; after the test, none has complained or asked another host."""
    complaints: list[str] = []

    def note_error(line: ConsoleMessage) -> None:
        if line.type == "error":
            complaints.append(line.text)

    def note_foreign(sent: Request) -> None:
        if not sent.url.startswith((url, f"blob:{url}", "data:")):
            complaints.append(sent.url)

    def open_(path: str) -> Page:
        page = browser.new_page(viewport=PHONE, color_scheme="dark")
        page.set_default_timeout(TIMEOUT)
        expect.set_options(timeout=TIMEOUT)
        page.on("console", note_error)
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("request", note_foreign)
        page.goto(url + path)
        return page

    yield open_
    assert complaints == []


def test_a_newcomer_votes_in_swagger_ui(open_page: Callable[..., Page]) -> None:
    """Register, sign in and authorize on a phone; search, vote and see the vote on a desktop.

    All requests are the examples given.
    """
    page = open_page("/api/schema/swagger-ui/")
    assert _execute(page, "register") == 201
    assert _execute(page, "sign_in") == 200
    shown = _operation(page, "sign_in").locator(
        ".responses-table.live-responses-table .highlight-code"
    )
    access = shown.first.inner_text().split('"access": "')[1].split('"')[0]
    page.locator(".auth-wrapper .authorize").click()
    page.locator(".modal-ux input").fill(access)
    page.locator(".modal-ux .authorize").click()
    page.locator(".modal-ux .btn-done").click()
    expect(page.locator("html.dark-mode")).to_be_attached()
    _check_appearance(page)
    _go_to_the_desktop(page)
    with page.expect_request(lambda sent: "/api/v1/movies/?" in sent.url) as search:
        assert _execute(page, "search_movies") == 200
    assert not {"cache-control", "prefer"} & set(search.value.headers)
    assert _execute(page, "set_my_rating") == 201
    assert _execute(page, "search_movies") == 200
    found = _operation(page, "search_movies").locator(".live-responses-table")
    expect(found).to_contain_text('"upvotes": 1')
    expect(found).to_contain_text('"my_rating": {')
    _check_appearance(page)
    page.reload()
    expect(page.locator(".auth-wrapper .authorize.locked, .auth-wrapper .locked")).to_be_visible()


def test_the_reference_shows_the_guide_and_every_operation(open_page: Callable[..., Page]) -> None:
    """In the colors that the browser prefers, even if that changes."""
    page = open_page("/api/schema/redoc/")
    for heading in ("Getting started", "Freshness", "Rate limits", "Search movies", "Sign in"):
        expect(page.locator("h1, h2", has_text=heading).first).to_be_attached()
    expect(page.get_by_text("RFC 9457").first).to_be_attached()
    expect(page.get_by_text("openapi.json")).to_have_count(1)
    menu = page.locator(".menu-content")
    expect(menu).to_have_css("background-color", "rgb(31, 41, 55)")
    page.locator("button", has_text="/movies/top/").click()  # shows the address
    _check_appearance(page)
    _go_to_the_desktop(page)
    expect(menu).to_have_css("background-color", "rgb(250, 250, 250)")
    page.locator("button", has_text="/movies/top/").click()
    _check_appearance(page)


def test_the_list_of_problems_shows_an_entry(open_page: Callable[..., Page]) -> None:
    page = open_page("/api/schema/problems/#rate-limited")
    expect(page.locator("#rate-limited")).to_be_in_viewport()
    _check_appearance(page)
    _go_to_the_desktop(page)
    _check_appearance(page)


def _operation(page: Page, name: str) -> Any:
    return page.locator(f".opblock[id$='-{name}']")


def _execute(page: Page, name: str) -> int:
    """Send the operation's example as it is prefilled; the status of the response."""
    operation = _operation(page, name)
    if not operation.locator(".opblock-body").is_visible():
        operation.locator(".opblock-summary-control").click()
    with page.expect_response(lambda answer: "/api/v1/" in answer.url) as answer:
        operation.get_by_role("button", name="Execute").click()
    expect(operation.locator(".live-responses-table")).to_be_visible()
    return answer.value.status


def _go_to_the_desktop(page: Page) -> None:
    page.set_viewport_size(DESKTOP)
    page.emulate_media(color_scheme="light")


def _check_appearance(page: Page) -> None:
    """No text is hard to read, and the page is not wider than the window."""
    assert page.evaluate(CONTRAST) == []
    root = "document.documentElement"
    assert page.evaluate(f"{root}.scrollWidth - {root}.clientWidth") <= 0
