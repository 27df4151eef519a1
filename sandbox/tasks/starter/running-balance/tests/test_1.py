from balances import running_balance


def test_adds_up():
    assert running_balance([10, 5, 5]) == [10, 15, 20]


def test_withdrawals():
    assert running_balance([100, -30]) == [100, 70]


def test_empty():
    assert running_balance([]) == []


def test_single():
    assert running_balance([7]) == [7]
