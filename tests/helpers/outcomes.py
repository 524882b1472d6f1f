"""What a finished run has left, to be compared with another's."""

import json

from ks_core.checkpoints.adapters import read_trainable_tokens


def outcome(job):
    """Wait for a run, and give of each arm by its name: its result, its answers, and its rows if it trained some."""
    assert job.wait(600) == "done", job.error + job.log_tail(40)
    found = {}
    for arm in job.result["arms"]:
        assert not arm["error"], arm["error"]
        folder = job.folder / "arms" / arm["folder"]
        rows = read_trainable_tokens(folder / "adapter") if (folder / "adapter" / "ticket.json").exists() else None
        found[arm["name"]] = (arm, json.loads((folder / "answers.json").read_text()), rows)
    return found
