from sales import sale_price


def test_half_price():
    assert sale_price(80, 50) == 40


def test_no_discount():
    assert sale_price(30, 0) == 30


def test_for_free():
    assert sale_price(12, 100) == 0


def test_ten_percent():
    assert sale_price(50, 10) == 45
