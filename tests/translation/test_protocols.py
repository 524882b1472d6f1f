"""Protocols and the templates that they are made of."""

import pytest

from ks_core.errors import SettingsError
from ks_core.translation.extraction import EXTRACTION_RULES, extract
from ks_core.translation.prompts import TEMPLATES, format_prompt, template, template_title
from ks_core.translation.protocols import PROTOCOLS


def test_every_protocol_can_be_followed():
    assert list(PROTOCOLS) == ["demo", "replication", "sibling"]
    for protocol in PROTOCOLS.values():
        assert template(protocol.prompt) == TEMPLATES[protocol.prompt].text
        assert protocol.rules and set(protocol.rules) <= set(EXTRACTION_RULES)
        assert protocol.beams >= 1 and protocol.max_new_tokens >= 1 and protocol.about
        assert not protocol.source or protocol.source == TEMPLATES[protocol.prompt].source
    sibling = PROTOCOLS["sibling"]
    assert (sibling.beams, sibling.max_new_tokens, sibling.rules) == (4, 256, ("response",))
    assert "likely and stated nowhere" in sibling.about
    with pytest.raises(SettingsError, match="no protocol"):
        PROTOCOLS.find("paper")


def test_the_replications_wording_is_not_called_the_papers():
    assert not any("paper's" in known.title for known in TEMPLATES.values())
    assert template("replication") == template("paper") and template_title("replication") == "The replication's wording"
    assert format_prompt("replication", "A cat", "English", "French") == (
        "Translate the following sentence from English to French.\nEnglish: A cat\nFrench:"
    )


def test_the_alpaca_frame():
    lines = format_prompt("alpaca", "A cat", "English", "French").split("\n")
    assert [line for line in lines if line.startswith("###")] == ["### Instruction:", "### Input:", "### Response:"]
    assert lines[lines.index("### Input:") + 1] == "A cat" and lines[-1] == "### Response:"
    assert "CONE-MT/Vocabulary-Sharing" in TEMPLATES["alpaca"].source
    restarted = " Un chat\n" + "\n".join(lines)
    for rule in ("first_line", "prompt_restart", "response"):
        assert extract(restarted, rule, "\n".join(lines)) == "Un chat"
