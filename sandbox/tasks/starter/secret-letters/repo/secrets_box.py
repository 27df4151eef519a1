"""Secret messages of small letters."""


def encrypt(text, shift):
    secret = ""
    for letter in text:
        place = (ord(letter) - 97 + shift) % 25
        secret += chr(97 + place)
    return secret
