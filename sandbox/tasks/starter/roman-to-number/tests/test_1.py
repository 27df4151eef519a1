from from_roman import from_roman


def test_repeated_letters():
    assert from_roman("III") == 3


def test_smaller_before_larger():
    assert from_roman("IV") == 4


def test_mixed():
    assert from_roman("MCMXCIV") == 1994


def test_repeated_at_the_end():
    assert from_roman("XXVIII") == 28


def test_single():
    assert from_roman("D") == 500
