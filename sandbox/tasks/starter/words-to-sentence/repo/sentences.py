"""Sentences made of words."""


def make_sentence(words):
    return "".join(words) + "."
