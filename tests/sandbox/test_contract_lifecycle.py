"""The contract: creating, sharing, closing and reaping."""

import threading
import time
from dataclasses import replace
from uuid import uuid4

import pytest

from sandbox.base import Backend, Sandbox, SandboxSpec
from sandbox.errors import (
    OUTCOME_OF_END,
    Outcome,
    SandboxError,
    SandboxGone,
    SandboxUnavailable,
    outcome_of,
)
from tests.sandbox.contract import opened, sh


def test_many_threads_each_drive_their_own(backend: Backend, spec: SandboxSpec) -> None:
    found: list[bytes] = []

    def drive(number: int) -> None:
        made = backend.create(spec)
        try:
            found.append(made.exec(["echo", str(number)], timeout_s=60).stdout.strip())
        finally:
            made.close()

    threads = [threading.Thread(target=drive, args=(n,)) for n in range(8)]
    [t.start() for t in threads]
    [t.join() for t in threads]
    assert sorted(found) == [str(n).encode() for n in range(8)]


def test_close_is_safe_twice_and_ends_use(sandbox: Sandbox) -> None:
    sandbox.close()
    sandbox.close()
    with pytest.raises(SandboxError):
        sandbox.exec(["true"], timeout_s=5)


def test_closing_under_a_running_command_ends_it_by_no_fault_of_the_agents(
    sandbox: Sandbox,
) -> None:
    found: list[Outcome] = []

    def drive() -> None:
        try:
            found.append(OUTCOME_OF_END[sh(sandbox, "sleep 60", timeout_s=90).end])
        except SandboxError as error:
            found.append(outcome_of(error))

    thread = threading.Thread(target=drive)
    thread.start()
    time.sleep(1)
    sandbox.close()
    thread.join(timeout=10)
    assert found == [Outcome.INFRA]


def test_reap_removes_what_has_expired(backend: Backend, spec: SandboxSpec) -> None:
    expired = backend.create(replace(spec, labels=replace(spec.labels, expires=time.time() - 1)))
    assert expired.id in backend.reap().removed
    expired.close()


def test_a_renewed_lease_keeps_a_sandbox_past_its_first_end(
    backend: Backend, spec: SandboxSpec
) -> None:
    labels = replace(spec.labels, expires=time.time() - 1)
    with opened(backend, spec, labels=labels) as sandbox:
        sandbox.renew(time.time() + 600)
        assert sandbox.id not in backend.reap().removed
        assert sh(sandbox, "echo here").stdout == b"here\n"
        sandbox.renew(time.time() - 1)
        assert sandbox.id in backend.reap().removed
        with pytest.raises(SandboxGone):
            sandbox.renew(time.time() + 600)


def test_reap_leaves_what_is_held_and_has_not_expired(backend: Backend, sandbox: Sandbox) -> None:
    assert sandbox.id not in backend.reap().removed
    assert sh(sandbox, "echo here").stdout == b"here\n"


def test_reaping_a_run_takes_all_of_it_and_nothing_else(
    backend: Backend, sandbox: Sandbox, spec: SandboxSpec
) -> None:
    run = f"run-{uuid4()}"
    labels = replace(spec.labels, run=run)
    with opened(backend, spec, labels=labels) as one, opened(backend, spec, labels=labels) as two:
        assert set(backend.reap(run=run).removed) == {one.id, two.id}
        for taken in (one, two):
            with pytest.raises(SandboxGone):
                taken.exec(["true"], timeout_s=5)
    assert sh(sandbox, "echo here").stdout == b"here\n"
    assert backend.reap(run=run).removed == ()


def test_what_is_recorded_tells_its_run_its_lease_and_whether_a_reaper_may_take_it(
    backend: Backend, spec: SandboxSpec
) -> None:
    past = replace(spec.labels, run="recorded", expires=time.time() - 1)
    with opened(backend, spec) as held, opened(backend, spec, labels=past) as expired:
        found = {row.id: row for row in backend.recorded()}
        assert abs(found[held.id].expires - spec.labels.expires) < 1
        assert [found[box.id].abandoned for box in (held, expired)] == [False, True]
        assert found[expired.id].run == "recorded"
    assert not {held.id, expired.id} & {row.id for row in backend.recorded()}


def test_every_sandbox_has_an_id_of_its_own(backend: Backend, spec: SandboxSpec) -> None:
    with opened(backend, spec) as one, opened(backend, spec) as two:
        assert one.id != two.id


def test_a_sandbox_may_start_empty(backend: Backend, spec: SandboxSpec) -> None:
    with opened(backend, spec, files={}) as sandbox:
        assert sandbox.diff() == b""
        sandbox.write("/testbed/first.py", b"x = 1\n")
        assert b"+x = 1" in sandbox.diff()


def test_a_repository_too_large_for_the_disk_is_refused_with_its_remedy(
    backend: Backend, spec: SandboxSpec
) -> None:
    with pytest.raises(SandboxUnavailable, match="disk_mib"):
        backend.create(replace(spec, files={"large.bin": bytes(6 << 20)}, disk_mib=4))


def test_an_unknown_image_says_what_to_do(backend: Backend, spec: SandboxSpec) -> None:
    with pytest.raises(SandboxUnavailable, match="no/such-image"):
        backend.create(replace(spec, docker_image="no/such-image:1"))
