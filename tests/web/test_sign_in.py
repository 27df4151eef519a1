"""Sign-in: by a link that works once, and nothing without it."""

from pathlib import Path

import pytest
from django.contrib.auth.models import User
from django.core.management import CommandError, call_command
from django.test import Client

from webapp.runs import studio
from webapp.sign_in import one_time_link

PAGES = ["/", "/runs/", "/tasksets/", "/workers/", "/settings/", "/media/runs/x"]


@pytest.mark.parametrize("page", PAGES)
def test_every_page_asks_for_sign_in_first(page: str) -> None:
    answer = Client().get(page)
    if page.startswith("/media/"):
        assert answer.status_code == 404
    else:
        assert answer.url == f"/sign-in/?next={page}"


def test_a_part_of_a_page_that_htmx_asks_for_leads_the_whole_page_to_sign_in() -> None:
    asked_on = {"HX-Request": "true", "HX-Current-URL": "http://testserver/runs/?page=2"}
    answer = Client().get("/runs/", headers=asked_on)
    assert answer.headers["HX-Redirect"] == "/sign-in/?next=%2Fruns%2F%3Fpage%3D2"
    assert answer.content == b""


def test_a_link_signs_in_once(alice: User) -> None:
    link = one_time_link(alice, "")
    first, second = Client(), Client()
    assert first.get(link).url == "/runs/"
    assert first.session["_auth_user_id"] == str(alice.pk)
    assert second.get(link).url == "/sign-in/"
    assert "_auth_user_id" not in second.session
    assert first.get(link).url == "/runs/"


def test_an_old_link_signs_nobody_in(alice: User, settings) -> None:
    link = one_time_link(alice, "")
    settings.SESAME_MAX_AGE = -1
    assert Client().get(link).url == "/sign-in/"


def test_a_command_prints_a_link(alice: User, capsys: pytest.CaptureFixture[str]) -> None:
    call_command("sign_in_link", "alice")
    link = capsys.readouterr().out.strip().removeprefix("http://127.0.0.1:8000")
    assert Client().get(link).url == "/runs/"
    with pytest.raises(CommandError, match="known: alice"):
        call_command("sign_in_link", "nobody")


def test_a_link_leads_to_where_the_studio_was_started(
    alice: User, capsys: pytest.CaptureFixture[str], settings, tmp_path: Path
) -> None:
    settings.VAR_DIR = tmp_path
    studio.keep_place("127.0.0.1", 8300)
    call_command("sign_in_link", "alice")
    assert capsys.readouterr().out.startswith("http://127.0.0.1:8300/")
    settings.PUBLIC_URL = "https://studio.example"
    call_command("sign_in_link", "alice")
    assert capsys.readouterr().out.startswith("https://studio.example/")


def test_pages_allow_no_inline_script(alice: User) -> None:
    client = Client()
    client.force_login(alice)
    policy = client.get("/runs/").headers["Content-Security-Policy"]
    assert "script-src 'self'" in policy
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
