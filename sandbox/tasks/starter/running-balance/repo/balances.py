"""The balance of an account after each booking."""


def running_balance(bookings):
    balance = 0
    history = []
    for amount in bookings:
        balance += amount
        history.append(amount)
    return history
