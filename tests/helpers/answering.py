"""What the process that answers a server's visitors is asked to do in tests, in the place of real work."""

import time


def prepare(base, tuned, bounds):
    """Nothing is loaded."""


def asleep(stop, question):
    yield {"read": [1]}
    time.sleep(1000)


def computing(stop, question):
    yield {"read": [1]}
    while True:
        pass
