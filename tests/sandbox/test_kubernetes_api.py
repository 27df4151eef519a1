"""Back-off and the watch, against a stand-in that is busy, or has forgotten a version, when the test wants it to."""

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from sandbox.kubernetes.api import ApiError
from sandbox.kubernetes.watch import PodWatch
from tests.sandbox.scripted_api import Script, refusal


@pytest.fixture
def script(tmp_path: Path) -> Iterator[Script]:
    made = Script(tmp_path)
    yield made
    made.close()


POD = {"metadata": {"name": "p", "resourceVersion": "6"}, "status": {"phase": "Pending"}}


def test_a_busy_server_is_asked_again(script: Script) -> None:
    script.answers = [refusal(429), refusal(500), refusal(503), (200, [{"ok": True}])]
    assert script.api.call("GET", script.api.path("pods")) == {"ok": True}
    assert len(script.requests) == 4


@pytest.mark.parametrize("code", [400, 403, 404, 422])
def test_a_refusal_is_final(script: Script, code: int) -> None:
    script.answers = [refusal(code, "exceeded quota")]
    with pytest.raises(ApiError, match=rf"{code}: exceeded quota"):
        script.api.call("POST", script.api.path("pods"), body=POD)
    assert len(script.requests) == 1


def test_a_refusal_by_a_server_that_has_just_come_back_is_not_final(script: Script) -> None:
    script.answers = [(0, []), refusal(403), (200, [{"ok": True}])]
    assert script.api.call("DELETE", script.api.path("pods", "p")) == {"ok": True}
    assert len(script.requests) == 3


def test_a_creation_whose_answer_was_lost_finds_its_own_object(script: Script) -> None:
    exists = refusal(409, 'pods "p" already exists')
    script.answers = [refusal(503), exists, (200, [POD])]
    assert script.api.call("POST", script.api.path("pods"), body=POD) == POD
    assert [method for method, _ in script.requests] == ["POST", "POST", "GET"]


def test_two_conflicts_over_a_quota_are_no_object_that_is_there(script: Script) -> None:
    busy = refusal(
        409, 'Operation cannot be fulfilled on resourcequotas "q": the object has been modified'
    )
    script.answers = [busy, busy, (201, [POD])]
    assert script.api.call("POST", script.api.path("pods"), body=POD) == POD
    assert [method for method, _ in script.requests] == ["POST", "POST", "POST"]


def test_a_name_that_somebody_else_took_is_an_error(script: Script) -> None:
    script.answers = [refusal(409, 'pods "p" already exists')]
    with pytest.raises(ApiError, match="already exists"):
        script.api.call("POST", script.api.path("pods"), body=POD)
    assert len(script.requests) == 1


def test_a_watch_resumes_where_it_ended_and_lists_again_when_that_is_forgotten(
    script: Script,
) -> None:
    listed = (200, [{"metadata": {"resourceVersion": "5"}, "items": []}])
    added = (200, [{"type": "ADDED", "object": POD}])
    forgotten = (200, [{"type": "ERROR", "object": {"code": 410, "message": "too old"}}])
    empty = (200, [{"metadata": {"resourceVersion": "9"}, "items": []}])
    quiet = (200, [{"type": "BOOKMARK", "object": {"metadata": {"resourceVersion": "9"}}}])
    script.answers = [listed, added, forgotten, empty, quiet]
    watch = PodWatch(script.api, "a=b")
    watch.expect("p")
    status = watch.wait_for("p", lambda s: bool(s.dead), 10)
    assert status is not None
    assert status.dead == "the pod was deleted"
    deadline = time.monotonic() + 10
    while len(script.requests) < 5 and time.monotonic() < deadline:
        time.sleep(0.05)
    watch.close()
    kinds = [(q.get("watch", ""), q.get("resourceVersion", "")) for _, q in script.requests[:5]]
    assert kinds == [("", ""), ("true", "5"), ("true", "6"), ("", ""), ("true", "9")]
