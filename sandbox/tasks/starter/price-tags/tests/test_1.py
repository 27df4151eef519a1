from price_tags import price_tag


def test_few_cents():
    assert price_tag(1205) == "12.05 EUR"


def test_many_cents():
    assert price_tag(1250) == "12.50 EUR"


def test_whole_euros():
    assert price_tag(300) == "3.00 EUR"


def test_below_one_euro():
    assert price_tag(7) == "0.07 EUR"
