"""Errors meant for people.

Every message says what was found, what was expected and what to do. The command line prints the
message and exits 2; a page shows it and keeps working. All of them are ``ValueError``s, so code
that calls the library can catch one built-in type.
"""


class KSLotteryError(ValueError):
    """Base of every error this project raises on purpose."""


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


class AccessError(KSLotteryError):
    """Something that whoever runs the server does not let it open or start."""


class JobError(KSLotteryError):
    """A job that cannot be started, found or cancelled."""


class Cancelled(Exception):
    """The user asked for the work to stop. Not an error: nothing is wrong with the input."""
