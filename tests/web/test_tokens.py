"""API tokens on the settings page: made, shown once, used, expired, revoked; each its owner's alone."""

import re
from datetime import timedelta

import pytest
from django.contrib.auth.models import User
from django.core.management import call_command
from django.test import Client
from django.utils import timezone

from webapp.api.models import USE_NOTED_EVERY, ApiToken

SHOWN = re.compile(r'<code id="new-token">(studio_[\w-]+)</code>')


@pytest.fixture
def signed_in(client: Client, alice: User) -> Client:
    client.force_login(alice)
    return client


def make(browser: Client, **fields: str) -> str:
    """A token made on the page."""
    data = {"name": "nightly", "lifetime": "30"} | fields
    answer = browser.post("/settings/tokens/", data)
    assert answer.status_code == 201
    assert "no-store" in answer["Cache-Control"]
    found = SHOWN.search(answer.text)
    assert found
    return found[1]


def status(token: str) -> int:
    client = Client(headers={"authorization": f"Bearer {token}"})
    return client.get("/api/runs").status_code


def test_without_a_token_the_page_says_what_one_is_for(signed_in: Client) -> None:
    page = signed_in.get("/settings/").text
    assert "No token yet" in page
    assert "http://testserver/api/runs" in page


def test_a_token_is_shown_once_and_opens_the_api(signed_in: Client, alice: User) -> None:
    token = make(signed_in)
    assert token not in signed_in.get("/settings/").text
    assert status(token) == 200
    kept = ApiToken.objects.get()
    assert (kept.user, kept.name) == (alice, "nightly")
    assert abs(kept.expires_at - timezone.now() - timedelta(days=30)) < timedelta(minutes=1)


def test_a_token_for_ever_has_no_end(signed_in: Client) -> None:
    make(signed_in, lifetime="never")
    assert ApiToken.objects.get().expires_at is None


@pytest.mark.parametrize(
    "wrong", [{"name": ""}, {"name": "x" * 81}, {"lifetime": "99"}, {"lifetime": ""}]
)
def test_a_wrong_form_makes_none_and_says_why(signed_in: Client, wrong: dict[str, str]) -> None:
    answer = signed_in.post("/settings/tokens/", {"name": "nightly", "lifetime": "30"} | wrong)
    assert answer.status_code == 422
    assert 'class="error"' in answer.text
    assert not ApiToken.objects.exists()


def test_an_expired_token_opens_nothing(signed_in: Client) -> None:
    token = make(signed_in)
    ApiToken.objects.update(expires_at=timezone.now())
    assert status(token) == 401
    assert "expired</span>" in signed_in.get("/settings/").text


def test_a_revoked_token_opens_nothing(signed_in: Client) -> None:
    token, other = make(signed_in), make(signed_in, name="weekly")
    revoked = ApiToken.objects.get(name="nightly")
    answer = signed_in.post(f"/settings/tokens/{revoked.pk}/revoke/", follow=True)
    assert "nightly is revoked" in answer.text
    assert (status(token), status(other)) == (401, 200)


def test_the_last_use_is_noted_now_and_then(signed_in: Client) -> None:
    token = make(signed_in)
    assert ApiToken.objects.get().last_used_at is None
    status(token)
    first = ApiToken.objects.get().last_used_at
    assert first is not None
    status(token)
    assert ApiToken.objects.get().last_used_at == first
    ApiToken.objects.update(last_used_at=first - 2 * USE_NOTED_EVERY)
    status(token)
    assert ApiToken.objects.get().last_used_at > first


def test_tokens_are_their_owners_alone(signed_in: Client, bob: User) -> None:
    make(signed_in)
    other = Client()
    other.force_login(bob)
    assert "Revoke nightly" in signed_in.get("/settings/").text
    assert "Revoke nightly" not in other.get("/settings/").text
    address = f"/settings/tokens/{ApiToken.objects.get().pk}/revoke/"
    assert other.post(address).status_code == 404
    assert signed_in.get(address).status_code == 405
    assert Client().post(address).status_code == 302
    assert ApiToken.objects.exists()


def test_a_name_is_text_and_nothing_else(signed_in: Client) -> None:
    make(signed_in, name="<script>alert(1)</script>")
    assert "<script>alert" not in signed_in.get("/settings/").text


def test_the_command_takes_days(alice: User, capsys: pytest.CaptureFixture[str]) -> None:
    call_command("api_token", "alice", "script", "--days", "0")
    assert ApiToken.user_of(capsys.readouterr().out.strip()) is None
