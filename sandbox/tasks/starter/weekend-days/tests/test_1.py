from weekdays import is_weekend


def test_saturday():
    assert is_weekend("Saturday")


def test_sunday():
    assert is_weekend("Sunday")


def test_friday_is_a_working_day():
    assert not is_weekend("Friday")


def test_monday_is_a_working_day():
    assert not is_weekend("Monday")
