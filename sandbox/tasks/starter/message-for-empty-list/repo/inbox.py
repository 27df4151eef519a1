"""A mailbox."""


def describe(mails):
    if mails:
        return "No mail"
    return f"{len(mails)} new"
