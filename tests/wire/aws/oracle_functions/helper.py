"""Another module of the same function, so that stack traces have more than one file."""


def divide(a, b):
    return a / b


def check(truth):
    assert truth, "it does not hold"
