"""`make screenshots`: pictures of the running studio for the README, from the pages themselves.

Signs in by the link that `manage.py sign_in_link` prints and photographs the newest run that has
steps, in light and dark, wide and narrow. It makes no data: start `make demo` first.
"""

import argparse
import re
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

from playwright.sync_api import Browser, BrowserContext, Page, sync_playwright

CHECKOUT = Path(__file__).resolve().parents[1]
CHROMIUM_FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking"]
SETTLE_MS = 1500
"""For charts to be drawn."""


class Look(NamedTuple):
    name: str
    width: int
    height: int
    dark: bool


LOOKS = [
    Look("light", 1440, 900, dark=False),
    Look("dark", 1440, 900, dark=True),
    Look("narrow", 390, 844, dark=False),
]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--link", help="one-time sign-in link; made here when left out")
    parser.add_argument("--to", type=Path, default=CHECKOUT / "docs" / "screenshots")
    parser.add_argument("--chromium", default="/usr/bin/chromium")
    args = parser.parse_args()
    args.to.mkdir(parents=True, exist_ok=True)
    link = args.link or sign_in_link()
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=args.chromium, args=CHROMIUM_FLAGS)
        photograph(browser, link, args.to)
        browser.close()
    return 0


def sign_in_link() -> str:
    command = [sys.executable, "manage.py", "sign_in_link"]
    printed = subprocess.run(command, cwd=CHECKOUT, check=True, capture_output=True, text=True)
    return printed.stdout.strip()


def photograph(browser: Browser, link: str, folder: Path) -> None:
    """Every page in every look."""
    first = browser.new_context()
    page = first.new_page()
    page.goto(link)
    base = re.match(r"https?://[^/]+", link)
    assert base, f"{link!r}: is no address"
    addresses = find_pages(page, base[0])
    for look in LOOKS:
        context = in_look(browser, first, look)
        for name, address in addresses.items():
            take(context, address, folder / f"{name}-{look.name}.png")
        context.close()


def find_pages(page: Page, base: str) -> dict[str, str]:
    """Name -> address, found by following the links that a reader would."""
    page.goto(f"{base}/runs/?sort=-progress")
    run = href(page, ".run-name a", "no run: start `make demo` and wait for its first step")
    rollout = href(page, "a.cell-passed, a.cell-failed", "no step has ended yet: wait for one")
    page.goto(base + rollout)
    group = href(page, "a[href^='/groups/']", f"{rollout}: names no group")
    found = {
        "runs": "/runs/",
        "run": run,
        "live": f"{run}live/",
        "group": group,
        "rollout": rollout,
        "patch": f"{rollout}patch/",
        "new-run": "/runs/new/",
    }
    return {name: base + address for name, address in found.items()}


def href(page: Page, selector: str, remedy: str) -> str:
    link = page.locator(selector).first
    if not link.count():
        raise SystemExit(f"screenshots: {remedy}")
    return link.get_attribute("href") or ""


def in_look(browser: Browser, signed_in: BrowserContext, look: Look) -> BrowserContext:
    return browser.new_context(
        viewport={"width": look.width, "height": look.height},
        color_scheme="dark" if look.dark else "light",
        reduced_motion="reduce",
        storage_state=signed_in.storage_state(),
    )


def take(context: BrowserContext, address: str, path: Path) -> None:
    page = context.new_page()
    page.goto(address)
    page.wait_for_timeout(SETTLE_MS)
    page.screenshot(path=path)
    page.close()
    print(path)


if __name__ == "__main__":
    sys.exit(main())
