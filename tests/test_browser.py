"""The documentation pages in a real browser, at the width of a desktop and of a phone."""

import shutil
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from playwright.sync_api import Browser, ConsoleMessage, Page, Request, expect, sync_playwright

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
DESKTOP, PHONE = 1280, 390
HEIGHT = 900
WIDTHS = pytest.mark.parametrize("width", [DESKTOP, PHONE], ids=["desktop", "phone"])
pytestmark = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)


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

    def open_(path: str, width: int, **options: Any) -> Page:
        page = browser.new_page(viewport={"width": width, "height": HEIGHT}, **options)
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
    page = open_page("/api/schema/swagger-ui/", PHONE)
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
    assert _overflow(page) <= 0
    page.set_viewport_size({"width": DESKTOP, "height": HEIGHT})
    assert _execute(page, "search_movies") == 200
    assert _execute(page, "set_my_rating") == 201
    assert _execute(page, "search_movies") == 200
    found = _operation(page, "search_movies").locator(".live-responses-table")
    expect(found).to_contain_text('"my_rating": {')
    page.reload()
    expect(page.locator(".auth-wrapper .authorize.locked, .auth-wrapper .locked")).to_be_visible()
    for width in (DESKTOP, PHONE):
        page.set_viewport_size({"width": width, "height": HEIGHT})
        assert _overflow(page) <= 0


@WIDTHS
def test_the_reference_shows_the_guide_and_every_operation(
    open_page: Callable[..., Page], width: int
) -> None:
    page = open_page("/api/schema/redoc/", width)
    for heading in ("Getting started", "Freshness", "Rate limits", "Search movies", "Sign in"):
        expect(page.locator("h1, h2", has_text=heading).first).to_be_attached()
    expect(page.get_by_text("RFC 9457").first).to_be_attached()
    assert _overflow(page) <= 0


@WIDTHS
def test_the_list_of_problems_shows_an_entry(open_page: Callable[..., Page], width: int) -> None:
    page = open_page("/api/schema/problems/#rate-limited", width)
    expect(page.locator("#rate-limited")).to_be_in_viewport()
    assert _overflow(page) <= 0


def test_swagger_ui_is_dark_where_the_browser_is(open_page: Callable[..., Page]) -> None:
    page = open_page("/api/schema/swagger-ui/", DESKTOP, color_scheme="dark")
    expect(page.locator("html.dark-mode")).to_be_attached()


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


def _overflow(page: Page) -> int:
    """By how many pixels the page is wider than the window."""
    root = "document.documentElement"
    width: int = page.evaluate(f"{root}.scrollWidth - {root}.clientWidth")
    return width
