"""The contract as a whole: how much is promised, that the list in docs/contract.md is current, and that exceptions are few."""

from sandbox.base import BACKENDS
from tests.sandbox.contract import DOCUMENT, EXCEPTIONS, document, promises


def test_at_least_sixty_promises_are_made() -> None:
    names = [name for _, found in promises() for name in found]
    assert len(names) == len(set(names)) >= 60


def test_the_documented_list_is_current() -> None:
    assert DOCUMENT.read_text() == document(), "run python -m tests.sandbox.contract"


def test_exceptions_are_few_and_about_promises_that_are_made() -> None:
    names = {name for _, found in promises() for name in found}
    assert len(EXCEPTIONS) <= 5
    assert {name for _, name in EXCEPTIONS} <= names
    assert {backend for backend, _ in EXCEPTIONS} <= BACKENDS.keys()
    assert all(EXCEPTIONS.values())
