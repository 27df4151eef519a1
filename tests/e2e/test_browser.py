"""A whole session in a real browser: sign in, launch, watch, read, stop; the console is clean."""

import re
import time

import httpx
import pytest
from playwright.sync_api import Browser, ConsoleMessage, Page, expect

from trainer.recipes import load_recipe

pytestmark = [pytest.mark.browser, pytest.mark.slow]
SLOW_MS = 60_000
REWARD_POINTS = "document.querySelector('[data-figure=reward]').data?.[0].x.length ?? 0"


@pytest.fixture
def page(browser: Browser) -> Page:
    page = browser.new_page(viewport={"width": 1440, "height": 900})
    page.set_default_timeout(SLOW_MS)
    expect.set_options(timeout=SLOW_MS)
    return page


def test_a_session_from_the_link_to_the_stop(page: Page, studio_link: str):
    complaints: list[str] = []

    def note(message: ConsoleMessage) -> None:
        if message.type in ("error", "warning"):
            complaints.append(f"{page.url}: {message.text}")

    page.on("console", note)
    page.on("pageerror", lambda error: complaints.append(f"{page.url}: {error}"))

    page.goto(studio_link)
    expect(page.get_by_role("heading", name="No run yet")).to_be_visible()

    launch(page)
    run_url = page.url
    see_a_live_rollout(page, run_url)
    see_the_curve_move(page, run_url)
    read_a_trajectory_and_its_diff(page, run_url)
    stop(page, run_url)
    make_and_revoke_a_token(page)
    assert complaints == []


def launch(page: Page) -> None:
    """From the form, an impossible value corrected on the way."""
    page.get_by_role("link", name="Start the first run").click()
    usual = load_recipe("starter-cpu")
    rollouts = usual.num_steps * usual.tasks.tasks_per_step * usual.rollout.group_size
    expect(page.locator("#estimate")).to_contain_text(f"{rollouts:,}")
    page.locator('[name="rollout.group_size"]').fill("1")
    expect(page.locator("#estimate")).to_contain_text("needs at least 2")
    page.locator('[name="rollout.group_size"]').fill("4")
    page.locator('[name="num_steps"]').fill("400")
    expect(page.locator("#estimate")).to_contain_text("12,800")
    page.locator('[name="name"]').fill("by browser")
    page.get_by_role("button", name="Launch").click()
    expect(page.get_by_role("heading", name="by browser")).to_be_visible()


def see_a_live_rollout(page: Page, run_url: str) -> None:
    """Its turns appear while one looks, without a reload."""
    page.goto(f"{run_url}live/")
    page.locator("#live-rows a[href*='live/?rollout=']").first.click()
    expect(page.locator(".follow .turn").first).to_be_visible()
    expect(page.locator(".follow .turn").nth(1)).to_be_visible()


def see_the_curve_move(page: Page, run_url: str) -> None:
    page.goto(run_url)
    first = wait_for_more_points(page, 0)
    page.evaluate("window.notReloaded = true")
    wait_for_more_points(page, first)
    assert page.evaluate("window.notReloaded") is True
    expect(page.locator("#run-header")).to_contain_text(re.compile(r"[1-9]\d*\s+of 400"))


def wait_for_more_points(page: Page, seen: int) -> int:
    """The policy of the pages forbids Playwright's own way of waiting, which evaluates text."""
    deadline = time.monotonic() + SLOW_MS / 1000
    while (points := page.evaluate(REWARD_POINTS)) <= seen:
        assert time.monotonic() < deadline, f"still {points} points on the reward curve"
        page.wait_for_timeout(100)
    return points


def read_a_trajectory_and_its_diff(page: Page, run_url: str) -> None:
    page.goto(f"{run_url}steps/1/")
    page.locator("a.cell-passed").first.click()
    expect(page.locator("#turn-1")).to_contain_text("cat prices.py")
    page.get_by_role("link", name="Patch").click()
    expect(page.locator("tr.diff-removed")).to_contain_text("sum(prices[1:])")
    page.get_by_role("link", name="Split").click()
    expect(page.locator("td.side.diff-added")).to_contain_text("sum(prices)")


def stop(page: Page, run_url: str) -> None:
    """The page says so without a reload."""
    page.goto(run_url)
    page.get_by_role("button", name="Stop").click()
    page.get_by_role("button", name="Stop the run").click()
    expect(page.locator("#run-header .status-stopped")).to_be_visible(timeout=15_000)


def make_and_revoke_a_token(page: Page) -> None:
    """It opens the API until it is revoked, which asks first. The page is as wide as a phone."""
    page.set_viewport_size({"width": 390, "height": 844})
    page.get_by_role("link", name="Settings").click()
    expect(page.get_by_role("heading", name="No token yet")).to_be_visible()
    page.get_by_label("What it is for").fill("by browser")
    page.get_by_role("button", name="Make a token").click()
    token = page.locator("#new-token").inner_text()
    assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
    assert api_status(page, token) == 200

    revoke = page.get_by_role("button", name="Revoke by browser")
    revoke.click()
    page.get_by_role("button", name="Cancel").click()
    assert api_status(page, token) == 200
    revoke.click()
    page.locator("#confirm").get_by_role("button", name="Revoke").click()
    expect(page.get_by_text("by browser is revoked")).to_be_visible()
    assert api_status(page, token) == 401


def api_status(page: Page, token: str) -> int:
    """As a script gets it, that has no cookie."""
    base = re.match(r"https?://[^/]+", page.url)
    assert base
    return httpx.get(
        f"{base[0]}/api/runs", headers={"Authorization": f"Bearer {token}"}
    ).status_code
