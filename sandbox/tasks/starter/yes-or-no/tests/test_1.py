from answers import said_yes


def test_plain():
    assert said_yes("yes") is True


def test_capitals():
    assert said_yes("YES") is True


def test_spaces():
    assert said_yes("  yes ") is True


def test_capitals_and_spaces():
    assert said_yes(" Yes") is True


def test_no():
    assert said_yes("no") is False


def test_yesterday():
    assert said_yes("yesterday") is False
