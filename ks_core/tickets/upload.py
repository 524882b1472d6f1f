"""A ticket's folder onto the Hugging Face hub: what would be sent, by whom, and sending it as one commit.

The token is the hub's own: ``HF_TOKEN``, or what ``hf auth login`` saved. It is never shown. Without one nothing is asked of
the network. A repository is made private; one that is there already is written to only where it holds a ticket or nothing, and
where it is open to all only if that is wished.
"""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ks_core.errors import TicketError
from ks_core.store import log
from ks_core.tickets.ticket import TICKET_FILE

#: What a folder of a ticket holds, and so what is sent: nothing else that may lie in it.
FILES = ("README.md", "adapter_config.json", "adapter_model.safetensors", TICKET_FILE)
LOG_IN = "Set HF_TOKEN to one that may write (https://huggingface.co/settings/tokens), or log in once: hf auth login."
#: What a hub's answer means while a ticket is sent, by its number.
ANSWERS = {
    401: f"the hub does not know the token (401). {LOG_IN}",
    403: "the token may not write there (403). Choose a repository of your own, or a token that may write to its owner's.",
    404: "the hub has no such repository or owner, or the token may not see it (404). Check the name.",
    409: "somebody changed the repository at the same moment (409). Try again.",
    429: "the hub asks to be left alone for a while (429). Try again later.",
}


@dataclass(frozen=True)
class Account:
    """Who sends: ``name`` as the hub knows them. ``token`` is kept out of everything that is shown."""

    name: str
    token: str = field(repr=False)


def token() -> str:
    """The token, without asking the hub anything. Raises ``TicketError`` where there is none."""
    from huggingface_hub import get_token

    with _told("read the token"):
        found = get_token()
    if not found:
        raise TicketError(
            f"There is no token of the hub here, so nothing can be sent. {LOG_IN} To look first: --dry-run."
        )
    return found


def account(known: str) -> Account:
    """Who a token belongs to. Raises ``TicketError`` where the hub does not take it or does not answer."""
    with _told("ask who the token belongs to"):
        return Account(str(_hub(known).whoami()["name"]), known)


def planned(folder: Path) -> list[tuple[str, int]]:
    """What would be sent, with bytes. Raises ``TicketError`` where the folder lacks a part of a ticket."""
    missing = [name for name in FILES if not (folder / name).is_file()]
    if missing:
        raise TicketError(
            f"{folder} has no {', '.join(missing)}. Expected the folder of a ticket; save the ticket again."
        )
    return [(name, (folder / name).stat().st_size) for name in FILES]


def send(folder: Path, repository: str, sender: Account, *, public: bool = False) -> str:
    """Send a ticket's folder as one commit; the address of what was made.

    The repository is made where it is not there, private unless ``public``. Raises ``TicketError`` where the hub says no or does
    not answer, where the repository holds something else than a ticket, and where it is public and ``public`` is not wished.
    """
    from huggingface_hub import CommitOperationAdd
    from huggingface_hub.errors import RepositoryNotFoundError

    files, hub = [name for name, _ in planned(folder)], _hub(sender.token)
    try:
        with _told(f"look at {repository}", passing=RepositoryNotFoundError):
            there: Any = hub.model_info(repository)
    except RepositoryNotFoundError:
        there = None
    if there is not None:
        _check(repository, bool(there.private), {one.rfilename for one in there.siblings or ()}, public)
    with _told(f"write to {repository}, as {sender.name}"):
        if there is None:
            hub.create_repo(repository, repo_type="model", private=not public)
        made = hub.create_commit(
            repository,
            [CommitOperationAdd(name, str(folder / name)) for name in files],
            commit_message="A KS-Lottery ticket",
        )
    return str(made.commit_url)


def _check(repository: str, private: bool, files: set[str], public: bool) -> None:
    others = sorted(files - {".gitattributes", *FILES})
    if others and TICKET_FILE not in files:
        raise TicketError(
            f"{repository} is there already and holds {len(files):,} files, but no {TICKET_FILE}: it is no ticket's, and nothing "
            "was sent. Choose another name."
        )
    if not private and not public:
        raise TicketError(
            f"{repository} is there already and open to all, and nothing was sent. With --public it is, or choose another name."
        )


def _hub(known: str) -> Any:
    from huggingface_hub import HfApi
    from huggingface_hub.utils import disable_progress_bars

    if not sys.stderr.isatty():  # a bar is for one who watches
        disable_progress_bars()
    return HfApi(endpoint=os.environ.get("HF_ENDPOINT") or None, token=known)


@contextlib.contextmanager
def _told(doing: str, passing: type[Exception] | tuple[()] = ()) -> Iterator[None]:
    """The library and what it stands on raise dozens of kinds; a person needs one sentence, and never the token."""
    try:
        yield
    except passing:
        raise
    except TicketError:
        raise
    except Exception as error:
        log.logger.info("the hub: %s: %s", doing, error)
        raise TicketError(f"To {doing} failed: {_why(error)}") from None


def _why(error: Exception) -> str:
    found: BaseException | None = error
    while found is not None:  # an upload's own error stands behind one that says which file it was
        number = getattr(getattr(found, "response", None), "status_code", None)
        if number in ANSWERS:
            return ANSWERS[number]
        if number is not None and number >= 500:
            return f"the hub is in trouble ({number}). Try again later."
        kind = type(found).__name__
        if kind.startswith("Offline"):
            return "this process is told to stay offline (HF_HUB_OFFLINE). Unset it."
        if kind.startswith(("Connect", "Timeout", "Network", "ReadTimeout", "WriteTimeout", "RemoteProtocol")):
            return "the hub does not answer. Check the network, and HF_ENDPOINT if it is set."
        found = found.__cause__ or found.__context__
    return f"{type(error).__name__}: {log.redact(' '.join(str(error).split()))[:300]}"
