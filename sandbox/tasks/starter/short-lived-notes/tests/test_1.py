from expiry import is_expired
from notes import Notes


def test_fresh_note():
    notes = Notes(10)
    notes.write("a", "hi", 0)
    assert notes.read("a", 9) == "hi"


def test_old_note():
    notes = Notes(10)
    notes.write("a", "hi", 0)
    assert notes.read("a", 10) is None


def test_written_again():
    notes = Notes(10)
    notes.write("a", "hi", 0)
    notes.write("a", "ho", 8)
    assert notes.read("a", 15) == "ho"


def test_unknown_note():
    assert Notes(10).read("b", 0) is None


def test_expiry():
    assert is_expired(5, 20, 10) is True and is_expired(5, 6, 10) is False
