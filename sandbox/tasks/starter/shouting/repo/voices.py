"""Ways to say a sentence."""


def shout(text):
    return text.lower() + "!"
