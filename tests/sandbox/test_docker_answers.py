"""What is made of an engine's answers, against a stand-in: events without deprecated fields, containers that cannot be
removed, and an engine that is away when a run ends.
"""

import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import pytest

from sandbox.docker.backend import DockerBackend
from sandbox.docker.events import EngineEvents
from sandbox.labels import label_map
from sandbox.pool import Pool
from sandbox.reap import reap_quietly
from tests.sandbox.scripted_engine import Answer, ScriptedEngine


@contextmanager
def engine(answers: Mapping[tuple[str, str], Answer]) -> Iterator[ScriptedEngine]:
    made = ScriptedEngine(answers)
    try:
        yield made
    finally:
        made.close()


def event(action: str, container: str) -> dict[str, Any]:
    """As an engine of API 1.52 sends it: neither `id` nor `status`."""
    actor = {"ID": container, "Attributes": {}}
    return {"Type": "container", "Action": action, "Actor": actor, "timeNano": 5 * 10**9}


def test_events_of_engine_29_are_counted_and_malformed_ones_passed_over() -> None:
    odd = [{"Action": "oom"}, {"Action": "oom", "Actor": None}, {"Action": "oom", "Actor": {}}]
    told = [event("oom", "a"), *odd, event("oom", "a"), event("die", "a"), event("oom", "b")]
    with engine({("GET", "/events"): (200, told)}) as scripted:
        events = EngineEvents(scripted.url)
        events.watch("a")
        events.start()
        try:
            assert events.await_oom("a", 1, 20)
            assert events.await_oom("a", 3, 20), "the subscription is made again when it ends"
            assert (events.died("a"), events.ooms("b")) == (True, 0)
        finally:
            events.close()


def row(number: int, labels: dict[str, str]) -> dict[str, Any]:
    return {"Id": f"c{number}", "Names": [f"/deepswe-{number:016x}-1"], "Labels": labels}


def test_a_container_that_cannot_be_removed_keeps_no_other_from_it(labels: Any) -> None:
    rows = [row(n, label_map(labels, f"s{n}")) for n in range(4)]
    answers: dict[tuple[str, str], Answer] = {
        ("GET", "/containers/json"): (200, [rows]),
        ("DELETE", "/containers/c0"): (0, []),
        ("DELETE", "/containers/c1"): (500, [{"message": "device is busy"}]),
        ("DELETE", "/containers/c2"): (404, [{"message": "no such container"}]),
        ("DELETE", "/containers/c3"): (200, []),
    }
    with engine(answers) as scripted:
        backend = DockerBackend(base_url=scripted.url)
        report = backend.reap(run=labels.run)
        backend.close()
    assert (report.examined, report.removed) == (4, ("s2", "s3"))
    assert [error.partition(":")[0] for error in report.errors] == ["sandbox s0", "sandbox s1"]
    assert "device is busy" in report.errors[1]


@pytest.mark.parametrize("url", ["unix:///no/such.sock", ""])
def test_an_engine_that_is_away_at_the_end_of_a_run_does_not_say_how_it_ended(
    url: str, caplog: pytest.LogCaptureFixture
) -> None:
    with engine({("GET", "/containers/json"): (0, [])}) as scripted:
        pool = Pool(DockerBackend(base_url=url or scripted.url))
        with caplog.at_level(logging.WARNING):
            reap_quietly(pool, "run-a")
        pool.close()
    assert "run run-a: sandboxes not reaped" in caplog.text


def test_what_could_not_be_removed_at_the_end_of_a_run_is_named(
    labels: Any, caplog: pytest.LogCaptureFixture
) -> None:
    answers: dict[tuple[str, str], Answer] = {
        ("GET", "/containers/json"): (200, [[row(0, label_map(labels, "s0"))]]),
        ("DELETE", "/containers/c0"): (500, [{"message": "device is busy"}]),
    }
    with engine(answers) as scripted, caplog.at_level(logging.WARNING):
        reap_quietly(DockerBackend(base_url=scripted.url), labels.run)
    assert f"run {labels.run}: sandbox s0" in caplog.text
