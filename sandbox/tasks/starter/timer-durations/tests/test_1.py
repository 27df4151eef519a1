from durations import parse_duration


def test_two_digits():
    assert parse_duration("90s") == 90


def test_hours_and_minutes():
    assert parse_duration("1h30m") == 5400


def test_all_units():
    assert parse_duration("2h5m10s") == 7510


def test_empty():
    assert parse_duration("") == 0


def test_three_digits():
    assert parse_duration("120m") == 7200
