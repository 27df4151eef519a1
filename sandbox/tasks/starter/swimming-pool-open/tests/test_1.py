from pool_hours import can_swim


def test_open_pool():
    assert can_swim(False) is True


def test_closed_pool():
    assert can_swim(True) is False


def test_no_answer_counts_as_open():
    assert can_swim(None) is True
