"""The form for a new run, in a real browser: a page that is signed in, and fields by their names."""

from collections.abc import Mapping

from playwright.sync_api import Browser, Page, expect

from tests.web.running_studio import Studio

PATIENCE_MS = 60_000


def signed_in(browser: Browser, studio: Studio) -> Page:
    page = browser.new_page(viewport={"width": 1440, "height": 900})
    page.set_default_timeout(PATIENCE_MS)
    expect.set_options(timeout=PATIENCE_MS)
    session = {"name": "sessionid", "value": studio.browser.cookies["sessionid"]}
    page.context.add_cookies([{**session, "url": studio.base}])  # type: ignore[list-item]
    return page


def fill_in(page: Page, values: Mapping[str, str]) -> None:
    """Every field of `values` by its name, those of folded sections too."""
    page.evaluate("for (const fold of document.querySelectorAll('details.fold')) fold.open = true")
    for name, value in values.items():
        field = page.locator(f'[name="{name}"]')
        if field.evaluate("e => e.tagName") == "SELECT":
            field.select_option(value)
        else:
            field.fill(value)
