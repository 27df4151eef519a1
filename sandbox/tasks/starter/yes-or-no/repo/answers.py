"""Answers that people type."""


def said_yes(answer):
    return answer == "yes"
