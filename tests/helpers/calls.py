"""What the process that reads for a server is asked to do in tests: some of it never ends."""

import os
import time

from ks_core.errors import CorpusError


def beginning(file, length):
    return os.getpid(), file.read(length)


def product(left, right):
    return left * right


def numbers(file):
    yield from ([n] * n for n in range(4))


def refused(file):
    raise CorpusError("It is no text.")


def wrong(file):
    return file.no_such_thing


def forever(file):
    while True:
        pass


def asleep(file):
    time.sleep(1000)


def endless(file):
    kept = []
    while True:
        kept.append(bytes(1 << 20))


def gone(file):
    os._exit(3)


def much(file):
    for _ in range(1000):
        yield bytes(8 << 20)


def held(file):
    globals()["kept"] = b"a" * (300 << 20)
