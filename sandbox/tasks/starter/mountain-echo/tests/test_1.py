from echoes import echo


def test_once_by_default():
    assert echo("hey") == "hey"


def test_twice():
    assert echo("ho", 2) == "hoho"


def test_never():
    assert echo("hi", 0) == ""


def test_by_keyword():
    assert echo("a", times=4) == "aaaa"
