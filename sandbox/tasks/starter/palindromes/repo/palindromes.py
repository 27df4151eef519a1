"""Words that read the same both ways."""


def is_palindrome(text):
    letters = [c for c in text if c.isalpha()]
    return letters == letters[::-1]
