"""Errors meant for people.

Every message says what was found, what was expected and what to do. The command line prints the
message and exits 2; a page shows it and keeps working. All of them are ``ValueError``s, so code
that calls the library can catch one built-in type.

A message often quotes a file's content or name, which may come from a stranger. So it is always one line,
of bounded length, without anything that a terminal would act upon.
"""

import errno

LONGEST = 2000


def one_line(text: str) -> str:
    """Text without what a hostile name could bring into a terminal or a page: controls, half characters.

    >>> one_line("a\\nb\\x1b[2J")
    'a⟨U+000A⟩b⟨U+001B⟩[2J'
    """
    return visible(text[:LONGEST]) + ("…" if len(text) > LONGEST else "")


def visible(text: str) -> str:
    """The whole text, with ``⟨U+001B⟩`` for what a screen does not show or acts upon."""
    return text if text.isprintable() else "".join(c if c.isprintable() else f"⟨U+{ord(c):04X}⟩" for c in text)


def first_line(error: BaseException) -> str:
    """The first line of what a library said, cut to 200 characters, or the kind of its error where it said nothing.

    >>> first_line(OSError("no such file\\nat all")), first_line(MemoryError())
    ('no such file', 'MemoryError')
    """
    return next(iter(str(error).strip().splitlines()), type(error).__name__)[:200]


class KSLotteryError(ValueError):
    """Base of every error this project raises on purpose. Its message is one line."""

    def __init__(self, message: object = "") -> None:
        super().__init__(one_line(str(message)))


class CheckpointError(KSLotteryError):
    """A checkpoint could not be opened, or what is in it cannot be used."""


class PairError(KSLotteryError):
    """Two checkpoints that cannot be compared with each other."""


class SettingsError(KSLotteryError):
    """A setting outside its range: alpha, k, a device, a count of steps."""


class TicketError(KSLotteryError):
    """A ticket that is empty, damaged, or made for another vocabulary."""


class CorpusError(KSLotteryError):
    """Parallel text that is missing, unreadable or too small."""


class ModelError(KSLotteryError):
    """A whole model that could not be loaded, tuned or run."""


class TrajectoryError(KSLotteryError):
    """A recording, or checkpoints of one training, that cannot be read as a trajectory."""


class AccessError(KSLotteryError):
    """Something that whoever runs the server does not let it open or start."""


class JobError(KSLotteryError):
    """A job that cannot be started, found or cancelled."""


class Cancelled(Exception):
    """The user asked for the work to stop. Not an error: nothing is wrong with the input."""


def of_machine(error: BaseException) -> str | None:
    """What a person can do about the machine's own troubles (memory, disk, permissions); ``None`` for other errors."""
    text = str(error).lower()
    code = error.errno if isinstance(error, OSError) else None
    # torch says it in words alone: "CUDA out of memory", and for the CPU "can't allocate memory".
    if isinstance(error, MemoryError) or code == errno.ENOMEM or "out of memory" in text or "allocate memory" in text:
        return "The machine ran out of memory. Close other programs, or choose a smaller batch, fewer rows or a smaller model."
    if code in (errno.ENOSPC, errno.EDQUOT):
        return "The disk is full. Free some space, then start it again: what was finished is kept."
    if code in (errno.EROFS, errno.EACCES, errno.EPERM, errno.ENOTDIR):
        named = getattr(error, "filename", None) or "A folder that is needed"
        return one_line(
            f"{named} cannot be written to ({getattr(error, 'strerror', '')}). Make it writable, then start it again."
        )
    return None
