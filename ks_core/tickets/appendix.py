"""The tickets that the paper prints, to lay beside one's own."""

from __future__ import annotations

import json

from ks_core.places import ASSETS

#: Language pairs, as people read them.
PUBLISHED = {
    "en-ca": "English to Catalan", "en-es": "English to Spanish", "en-ro": "English to Romanian",
    "en-da": "English to Danish", "en-de": "English to German", "en-pt": "English to Portuguese",
}  # fmt: skip


def published() -> dict[str, list[int]]:
    """The six tickets the paper's appendix prints, by language pair, in LLaMA-1's vocabulary.

    Source: KS-Lottery (arXiv 2402.02801v2), Table 11, as quoted by an independent replication. The
    ids mean nothing in another vocabulary.
    """
    path = ASSETS / "published_tickets.json"
    return json.loads(path.read_text(encoding="utf-8"))["tickets"]
