from clinic import WaitingRoom
from triage import priority


def test_arrival_decides_among_equals():
    w = WaitingRoom()
    w.arrive("Zoe", "normal")
    w.arrive("Abe", "normal")
    assert [w.call_next(), w.call_next()] == ["Zoe", "Abe"]


def test_check_ups_come_last():
    w = WaitingRoom()
    w.arrive("Cy", "check-up")
    w.arrive("Di", "normal")
    assert [w.call_next(), w.call_next()] == ["Di", "Cy"]


def test_urgent_first():
    w = WaitingRoom()
    w.arrive("Ed", "normal")
    w.arrive("Flo", "urgent")
    assert w.call_next() == "Flo"


def test_three_levels():
    assert priority("urgent") < priority("normal") < priority("check-up")
