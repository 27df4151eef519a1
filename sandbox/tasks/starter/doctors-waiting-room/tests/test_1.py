from clinic import WaitingRoom
from triage import priority


def test_arrival_decides_among_equals():
    room = WaitingRoom()
    room.arrive("Zoe", "normal")
    room.arrive("Abe", "normal")
    assert [room.call_next(), room.call_next()] == ["Zoe", "Abe"]


def test_check_ups_come_last():
    room = WaitingRoom()
    room.arrive("Cy", "check-up")
    room.arrive("Di", "normal")
    assert [room.call_next(), room.call_next()] == ["Di", "Cy"]


def test_urgent_first():
    room = WaitingRoom()
    room.arrive("Ed", "normal")
    room.arrive("Flo", "urgent")
    assert room.call_next() == "Flo"


def test_three_levels():
    assert priority("urgent") < priority("normal") < priority("check-up")
