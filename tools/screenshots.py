"""Take the screenshots of the documentation pages in docs/images (`make screenshots`).

Needs Chromium.
"""

import shutil
import sys
import threading
from pathlib import Path

from playwright.sync_api import ViewportSize, sync_playwright
from werkzeug.serving import make_server

from movies import create_app

IMAGES = Path(__file__).resolve().parents[1] / "docs/images"
# The path of each page, and a selector of what it shows when it is complete.
PAGES = {
    "redoc": ("/api/schema/redoc/", ".menu-content"),
    "swagger-ui": ("/api/schema/swagger-ui/", ".opblock"),
}
SIZE: ViewportSize = {"width": 1280, "height": 800}


def main() -> None:
    """Replace the pictures. Exits with a message if Chromium is missing."""
    chromium = shutil.which("chromium") or shutil.which("google-chrome")
    if chromium is None:
        sys.exit("Error: Chromium is not installed. On Debian: apt install chromium")
    server = make_server("127.0.0.1", 0, create_app("testing"), threaded=True)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    IMAGES.mkdir(exist_ok=True)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        for name, (path, content) in PAGES.items():
            page = browser.new_page(viewport=SIZE)
            page.goto(f"http://127.0.0.1:{server.server_port}{path}")
            page.locator(content).first.wait_for()
            page.screenshot(path=IMAGES / f"{name}.png")
        browser.close()
    server.shutdown()


if __name__ == "__main__":
    main()
