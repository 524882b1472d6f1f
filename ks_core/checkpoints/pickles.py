"""What a pickle of weights says, read without making anything of what it asks for.

A pickle is a program: it names functions and calls them, and a call may run code, or take all memory there is
(``bytearray(10**11)`` in forty bytes). So it is not loaded here. Its instructions are followed one by one
(``pickletools`` decodes them), over plain values, with a description in the place of every storage and tensor. Which calls
are followed, and with what, says ``torch_calls``; any other is refused.

Bounded are the bytes, the instructions, and what calls copy: values that are named again and again are held once, and so
nothing here grows beyond a multiple of the pickle. What passes here is harmless for ``torch.load(weights_only=True)`` too.
It does not know where storages lie; ``torch_file`` does.
"""

from __future__ import annotations

import io
import pickletools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from ks_core.checkpoints.torch_calls import CALLS, Name, Refused, Storage, Value, is_known, put, storage

#: Bounds on one pickle, a hundred times what the largest checkpoints have: a tensor takes about 200 bytes and 45 instructions.
LARGEST, MOST_INSTRUCTIONS = 32 << 20, 2_000_000


class NoPickle(Exception):
    """What is no pickle, or a damaged one. The message says why."""


@dataclass(frozen=True)
class Said:
    """What a pickle says: its value, every storage that it names, and where in the bytes it ends.

    In a value tables, lists, tuples, text, bytes and numbers are themselves; the rest are the kinds of ``torch_calls``.
    """

    value: Any
    storages: list[Storage]
    end: int


def content(data: bytes, start: int = 0) -> Said:
    """What the pickle in ``data`` says that begins at ``start``.

    Raises ``Refused`` for one that asks for more than weights, and ``NoPickle``.
    """
    machine = _Machine()
    file = io.BytesIO(data)
    file.seek(start)
    try:
        for number, (opcode, argument, _) in enumerate(pickletools.genops(file)):
            if number >= MOST_INSTRUCTIONS:
                raise Refused(f"has more than {MOST_INSTRUCTIONS:,} instructions")
            if opcode.name == "STOP":
                return Said(machine.pop(), machine.storages, file.tell())
            step = _STEPS.get(opcode.name)
            if step is None:
                raise Refused(f"has the instruction {opcode.name}")
            step(machine, argument)
    except (ValueError, IndexError, KeyError, TypeError, AttributeError, OverflowError, AssertionError) as error:
        raise NoPickle(f"{type(error).__name__} at byte {file.tell():,}") from None
    raise NoPickle("it has no end")


class _Machine:
    """The stack of a pickle, its marks, and what it has put aside to name again."""

    def __init__(self) -> None:
        self.stack: list[Any] = []
        self.below: list[list[Any]] = []
        self.aside: dict[int, Any] = {}
        self.copied = 0
        self.storages: list[Storage] = []

    def pop(self) -> Any:
        return self.stack.pop()

    def mark(self) -> None:
        self.below.append(self.stack)
        self.stack = []

    def since_mark(self) -> list[Any]:
        found, self.stack = self.stack, self.below.pop()
        return found

    def name(self, argument: str) -> None:
        module, _, name = argument.partition(" ")
        full = f"{'builtins' if module == '__builtin__' else module}.{name}"
        if full not in CALLS and not is_known(full):
            raise Refused(f"names {full[:80]}")
        self.stack.append(Name(full))

    def call(self) -> None:
        given, called = self.pop(), self.pop()
        if not isinstance(called, Name) or not isinstance(given, tuple):
            raise ValueError("a call of nothing")
        self.copied += sum(len(one) for one in given if isinstance(one, str | bytes | list | tuple | dict))
        if self.copied > LARGEST:
            raise Refused("copies more than it holds")
        if called.name not in CALLS:
            raise Refused(f"calls {called.name[:80]}")
        self.stack.append(CALLS[called.name](*given))

    def build(self) -> None:
        """What is set on an object: of a table its notes, which are left out."""
        self.pop()
        if not isinstance(self.stack[-1], dict):
            raise Refused("sets the insides of an object")

    def stored(self) -> None:
        found = storage(self.pop())
        self.storages.append(found)
        self.stack.append(found)

    def append(self, values: list[Any]) -> None:
        found = self.stack[-1]
        if type(found) is not list:
            raise ValueError("no list to append to")
        found += values

    def put(self, entries: list[Any]) -> None:
        found = self.stack[-1]
        if type(found) is not dict or len(entries) % 2:
            raise ValueError("no table to put into")
        for key, value in zip(entries[::2], entries[1::2], strict=True):
            put(found, key, value)

    def last(self, count: int) -> list[Any]:
        if len(self.stack) < count:
            raise ValueError("too little on the stack")
        found = self.stack[len(self.stack) - count :]
        del self.stack[len(self.stack) - count :]
        return found


def _push(machine: _Machine, value: Any) -> None:
    machine.stack.append(value)


def _aside(machine: _Machine, number: int) -> None:
    machine.aside[number] = machine.stack[-1]


#: The instructions that ``weights_only`` knows: those of protocol 2, in which torch writes.
_STEPS: dict[str, Callable[[_Machine, Any], Any]] = {
    "PROTO": lambda m, _: None,
    "NEWTRUE": lambda m, _: _push(m, True),
    "NEWFALSE": lambda m, _: _push(m, False),
    **dict.fromkeys(
        ("NONE", "BININT", "BININT1", "BININT2", "LONG1", "BINFLOAT", "BINUNICODE", "SHORT_BINSTRING"), _push
    ),
    "EMPTY_TUPLE": lambda m, _: _push(m, ()),
    "EMPTY_LIST": lambda m, _: _push(m, []),
    "EMPTY_DICT": lambda m, _: _push(m, {}),
    "EMPTY_SET": lambda m, _: _push(m, Value()),
    "MARK": lambda m, _: m.mark(),
    "TUPLE": lambda m, _: _push(m, tuple(m.since_mark())),
    "TUPLE1": lambda m, _: _push(m, tuple(m.last(1))),
    "TUPLE2": lambda m, _: _push(m, tuple(m.last(2))),
    "TUPLE3": lambda m, _: _push(m, tuple(m.last(3))),
    "APPEND": lambda m, _: m.append(m.last(1)),
    "APPENDS": lambda m, _: m.append(m.since_mark()),
    "SETITEM": lambda m, _: m.put(m.last(2)),
    "SETITEMS": lambda m, _: m.put(m.since_mark()),
    **dict.fromkeys(("BINPUT", "LONG_BINPUT"), _aside),
    **dict.fromkeys(("BINGET", "LONG_BINGET"), lambda m, number: _push(m, m.aside[number])),
    "GLOBAL": lambda m, argument: m.name(argument),
    "REDUCE": lambda m, _: m.call(),
    "BUILD": lambda m, _: m.build(),
    "BINPERSID": lambda m, _: m.stored(),
}
