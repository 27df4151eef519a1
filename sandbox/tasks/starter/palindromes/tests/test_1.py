from palindromes import is_palindrome


def test_capital_letter():
    assert is_palindrome("Anna") is True


def test_sentence():
    assert is_palindrome("Never odd or even") is True


def test_not_a_palindrome():
    assert is_palindrome("Anne") is False


def test_empty():
    assert is_palindrome("") is True
