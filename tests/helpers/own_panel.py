"""A panel of one's own, as somebody who adds one writes it: how long the prompts are. It asks the model nothing."""

import plotly.graph_objects as go

from ks_core.audit.panels import Panel
from ks_core.drawing import labelled


def panel(material, report):
    report(0, len(material.asked), "counting")
    return {"words": [len(prompt.split()) for prompt in material.asked.prompts]}


def figure(panel):
    return labelled(go.Figure().add_bar(y=panel["words"]), "Lengths", "Words of each prompt.")


def table(panel):
    return [{"Words": words} for words in panel["words"]], "Words a prompt"


def sentence(panel):
    return f"The longest prompt has {max(panel['words'])} words."


LENGTHS = Panel(
    "lengths", "Lengths", "How long are the prompts?", needs="the lengths of the prompts",
    function="helpers.own_panel:panel", sentence=sentence, figure="helpers.own_panel:figure",
    table="helpers.own_panel:table", note="In words.",
)  # fmt: skip
