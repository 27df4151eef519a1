"""Replacing words in a text."""


def swap_word(text, old, new):
    return text.replace(new, old)
