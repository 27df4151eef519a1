"""Webhooks: a run's end reaches a real receiver, signed; faults are tried again and told; no private address is called."""

import base64
import hashlib
import hmac
import json
import socket
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from typing import Any
from uuid import UUID, uuid4

import pytest
from django.contrib.auth.models import User
from django.db import connection, transaction
from django.test import Client
from django.utils import timezone

from tests.web.receiver import Receiver, receiving
from webapp.runs import lifecycle
from webapp.runs.models import Run, RunStatus, Worker
from webapp.webhooks import deliver, destination
from webapp.webhooks.announce import queue
from webapp.webhooks.models import Delivery, Webhook
from webapp.webhooks.signature import signed_headers

pytestmark = pytest.mark.django_db


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with receiving() as server:
        yield server


@pytest.fixture
def private(settings) -> None:
    """The administrator lets webhooks lead to this machine."""
    settings.WEBHOOK_PRIVATE_ADDRESSES = True


@pytest.fixture
def webhook(private: None, alice: User, receiver: Receiver) -> Webhook:
    made: Webhook = Webhook.objects.create(user=alice, url=receiver.url)
    return made


@pytest.fixture
def signed_in(client: Client, alice: User) -> Client:
    client.force_login(alice)
    return client


def only() -> Delivery:
    found: Delivery = Delivery.objects.get()
    return found


def attempt() -> Delivery:
    """The next attempt of the only delivery, now."""
    Delivery.objects.update(due_at=timezone.now())
    deliver.deliver(only().id)
    return only()


# ---- what is sent


def test_the_signature_is_the_specifications() -> None:
    """The vector of the reference libraries' own tests."""
    at = datetime.fromtimestamp(1614265330, UTC)
    secret, message = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "msg_p5jXN8AQM9LWM0D4loKWxJek"
    headers = signed_headers(secret, message, at, '{"test": 2432232314}')
    assert headers == {
        "webhook-id": message,
        "webhook-timestamp": "1614265330",
        "webhook-signature": "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=",
    }


def test_a_run_that_ends_is_told_once_and_signed(
    run: Run, worker: Worker, webhook: Webhook, receiver: Receiver
) -> None:
    claim = lifecycle.claim(run.id, worker)
    assert claim
    lifecycle.mark_running(run.id, claim.lease)
    assert not Delivery.objects.exists()
    for _ in range(2):
        lifecycle.settle(run.id, claim.lease, RunStatus.FINISHED, "All steps done.")
    deliver.deliver(only().id)
    deliver.deliver(only().id)

    (got,) = receiver.received
    assert got.path == "/studio?team=a"
    assert got.headers["host"] == f"localhost:{receiver.server_port}"
    message = json.loads(got.body)
    assert message["type"] == "run.finished"
    assert (
        message["data"].items()
        >= {"id": str(run.id), "name": "first", "status": "finished", "num_steps": 2}.items()
    )
    assert message["data"]["url"].endswith(f"/runs/{run.id}/")
    signed = f"{got.headers['webhook-id']}.{got.headers['webhook-timestamp']}.".encode() + got.body
    key = base64.b64decode(webhook.secret.removeprefix("whsec_"))
    expected = base64.b64encode(hmac.new(key, signed, hashlib.sha256).digest()).decode()
    assert got.headers["webhook-signature"] == f"v1,{expected}"
    told = only()
    assert (told.status, told.response_status, told.attempts) == ("delivered", 204, 1)


@pytest.mark.parametrize("end", ["stopped", "failed"])
def test_every_end_has_its_message(run: Run, worker: Worker, webhook: Webhook, end: str) -> None:
    if end == "stopped":
        lifecycle.request_stop(run, by="alice")
    else:
        claim = lifecycle.claim(run.id, worker)
        assert claim
        lifecycle.settle(run.id, claim.lease, RunStatus.FAILED, "No.")
    assert only().type == f"run.{end}"


def test_an_end_that_is_rolled_back_is_told_nobody(run: Run, webhook: Webhook) -> None:
    with transaction.atomic():
        lifecycle.request_stop(run, by="alice")
        transaction.set_rollback(True)
    assert not Delivery.objects.exists()


def test_others_are_not_told(run: Run, bob: User) -> None:
    Webhook.objects.create(user=bob, url="https://example.com/")
    lifecycle.request_stop(run, by="alice")
    assert not Delivery.objects.exists()


# ---- what goes wrong


def test_it_is_tried_again_later_and_later_then_given_up(
    webhook: Webhook, receiver: Receiver
) -> None:
    receiver.status = 503
    queue(webhook, "webhook.test", {})
    waits = []
    for number in range(1, deliver.MAX_ATTEMPTS):
        told = attempt()
        assert (told.status, told.attempts, told.response_status) == ("pending", number, 503)
        waits.append(told.due_at - timezone.now())
        deliver.deliver(told.id)
    assert waits == sorted(waits)
    assert timedelta(days=2) < sum(waits, timedelta()) < timedelta(days=4)
    assert attempt().status == "failed"
    assert only().error == "The answer was 503, not 2xx."
    assert len(receiver.received) == deliver.MAX_ATTEMPTS
    assert len({got.headers["webhook-id"] for got in receiver.received}) == 1


def test_it_arrives_when_the_receiver_is_back(webhook: Webhook, receiver: Receiver) -> None:
    receiver.status = 500
    queue(webhook, "webhook.test", {})
    attempt()
    receiver.status = 200
    assert (attempt().status, only().attempts, only().error) == ("delivered", 2, "")


def test_a_redirect_is_not_followed(webhook: Webhook, receiver: Receiver) -> None:
    receiver.status = 302
    queue(webhook, "webhook.test", {})
    assert attempt().error == "The answer was 302, not 2xx."
    assert [got.path for got in receiver.received] == ["/studio?team=a"]


def test_a_receiver_that_is_gone_is_asked_no_more(
    run: Run, webhook: Webhook, receiver: Receiver
) -> None:
    receiver.status = 410
    queue(webhook, "webhook.test", {})
    assert attempt().status == "failed"
    lifecycle.request_stop(run, by="alice")
    assert Delivery.objects.count() == 1


def test_a_silent_receiver_holds_no_worker(
    webhook: Webhook, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(destination, "TIMEOUT_S", 0.3)
    receiver.answering.clear()
    queue(webhook, "webhook.test", {})
    told = attempt()
    assert (told.status, told.error) == ("pending", "No answer within 0 s.")


@pytest.mark.usefixtures("private")
def test_nobody_there_is_tried_again(alice: User) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
    queue(Webhook.objects.create(user=alice, url=f"http://localhost:{port}/"), "webhook.test", {})
    told = attempt()
    assert told.status == "pending"
    assert told.error.startswith("No answer: ")


@pytest.mark.django_db(transaction=True)
def test_two_workers_send_once(webhook: Webhook, receiver: Receiver) -> None:
    receiver.answering.clear()
    delivery = queue(webhook, "webhook.test", {})
    first = threading.Thread(target=deliver_elsewhere, args=[delivery.id])
    first.start()
    while not receiver.received:
        assert first.is_alive()
    deliver.deliver(delivery.id)
    receiver.answering.set()
    first.join()
    assert len(receiver.received) == 1
    assert only().status == "delivered"


def deliver_elsewhere(delivery_id: UUID) -> None:
    deliver.deliver(delivery_id)
    connection.close()


def test_the_reaper_asks_for_what_is_due_and_forgets_what_is_old(
    webhook: Webhook, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[Any] = []
    monkeypatch.setattr(deliver, "send", asked.append)
    due, later, old = (queue(webhook, "webhook.test", {}) for _ in range(3))
    asked.clear()
    Delivery.objects.filter(id=later.id).update(due_at=timezone.now() + timedelta(hours=1))
    ended = timezone.now() - deliver.KEEP - timedelta(hours=1)
    Delivery.objects.filter(id=old.id).update(status="delivered", ended_at=ended)
    deliver.reap()
    assert asked == [due.id]
    assert not Delivery.objects.filter(id=old.id).exists()


# ---- where it may lead


@pytest.mark.parametrize(
    "url",
    [
        "http://localhost/",
        "http://127.0.0.1:8000/",
        "http://2130706433/",
        "http://0x7f.1/",
        "http://0/",
        "http://[::1]/",
        "http://[::ffff:10.0.0.1]/",
        "http://10.1.2.3/",
        "http://192.168.0.1/",
        "http://169.254.169.254/latest/meta-data/",
        "http://100.64.0.1/",
        "http://[fd00::1]/",
        "http://[fe80::1]/",
        "http://[64:ff9b::7f00:1]/",
        "http://[2002:7f00:1::]/",
        "http://224.0.0.1/",
    ],
)
def test_no_private_address_is_called(url: str, alice: User, signed_in: Client) -> None:
    with pytest.raises(destination.RefusedError, match="not a public address"):
        destination.resolve(url)
    assert signed_in.post("/settings/webhooks/", {"url": url}).status_code == 422
    queue(Webhook.objects.create(user=alice, url=url), "webhook.test", {})
    told = attempt()
    assert (told.status, told.attempts) == ("failed", 1)
    assert "WEBHOOK_PRIVATE_ADDRESSES" in told.error


@pytest.mark.parametrize(
    "url", ["ftp://example.com/", "file:///etc/passwd", "//example.com", "https://a:b@8.8.8.8/"]
)
def test_what_is_no_web_address_is_refused(url: str) -> None:
    with pytest.raises(destination.RefusedError):
        destination.resolve(url)


@pytest.mark.parametrize("address", ["8.8.8.8", "2606:4700::1111"])
def test_public_addresses_are_allowed(address: str) -> None:
    assert destination.is_public(ip_address(address))
    host = f"[{address}]" if ":" in address else address
    assert destination.resolve(f"https://{host}/").address == address


def test_the_connection_goes_to_the_address_that_was_checked(
    receiver: Receiver, monkeypatch: pytest.MonkeyPatch, settings
) -> None:
    """A name server that answers otherwise at the second time, as one that rebinds does."""
    settings.WEBHOOK_PRIVATE_ADDRESSES = True
    answers = iter(["127.0.0.1"])
    look_up = socket.getaddrinfo

    def rebinding(host: Any, *args: Any, **kwargs: Any) -> Any:
        return look_up(next(answers) if host == "rebinds.example" else host, *args, **kwargs)

    monkeypatch.setattr(socket, "getaddrinfo", rebinding)
    url = f"http://rebinds.example:{receiver.server_port}/"
    assert destination.post(url, {}, "{}") == 204
    assert receiver.received[0].headers["host"] == f"rebinds.example:{receiver.server_port}"


# ---- the page


@pytest.mark.usefixtures("private")
def test_a_webhook_is_added_and_its_secret_shown_once(
    signed_in: Client, receiver: Receiver, alice: User
) -> None:
    assert "No webhook yet" in signed_in.get("/settings/").text
    answer = signed_in.post("/settings/webhooks/", {"url": receiver.url})
    added = Webhook.objects.get()
    assert (answer.status_code, added.user, added.url) == (201, alice, receiver.url)
    assert "no-store" in answer["Cache-Control"]
    assert added.secret in answer.text
    page = signed_in.get("/settings/").text
    assert added.secret not in page
    assert "Nothing was sent yet" in page


def test_a_test_is_sent_and_sent_again(
    signed_in: Client, webhook: Webhook, receiver: Receiver
) -> None:
    signed_in.post(f"/settings/webhooks/{webhook.pk}/test/")
    assert "waits for a worker" in signed_in.get("/settings/").text
    again = f"/settings/deliveries/{only().id}/again/"
    assert "being sent already" in signed_in.post(again, follow=True).text
    deliver.deliver(only().id)
    assert "delivered" in signed_in.get("/settings/").text
    signed_in.post(again)
    deliver.deliver(only().id)
    assert [json.loads(got.body)["type"] for got in receiver.received] == ["webhook.test"] * 2


def test_webhooks_are_their_owners_alone(webhook: Webhook, bob: User, signed_in: Client) -> None:
    delivery = queue(webhook, "webhook.test", {})
    other = Client()
    other.force_login(bob)
    for address in (
        f"/settings/webhooks/{webhook.pk}/remove/",
        f"/settings/webhooks/{webhook.pk}/test/",
        f"/settings/deliveries/{delivery.id}/again/",
        f"/settings/deliveries/{uuid4()}/again/",
    ):
        assert other.post(address).status_code == 404
        assert signed_in.get(address).status_code == 405
        assert Client().post(address).status_code == 302
    assert webhook.url not in other.get("/settings/").text
    signed_in.post(f"/settings/webhooks/{webhook.pk}/remove/")
    assert not Delivery.objects.exists()
