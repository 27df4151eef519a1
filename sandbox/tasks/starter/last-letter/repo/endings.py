"""How words end."""


def last_letter(word):
    if word == "":
        return ""
    return word[0]
