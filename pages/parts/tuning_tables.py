"""The tables of a run: how likely its arms find the references, and how their answers scored."""

from __future__ import annotations

import pandas as pd
import streamlit as st

from ks_core.jobs import duration
from ks_core.translation import TITLES, leading
from ks_core.tuning import comparison
from pages.parts.say import plain


def show(frame: pd.DataFrame, said: list[str], rule: str = "first_line") -> None:
    """The tables of likelihoods and of scores, and below them what has to be known to read them. ``rule`` is the one that p is under."""
    if "nats" in frame:
        _likelihoods(frame)
    if comparison.rules_of(frame):
        _scores(frame, rule)
    for note in said:
        st.caption(plain(note))


def _likelihoods(frame: pd.DataFrame) -> None:
    """How likely each arm finds the references, and what it gains over the base."""
    shown = frame[frame.nats.notna()]
    columns = {
        "Arm": shown.arm,
        **{title: _bounded(shown, name, form) for title, name, form in (
            ("Nats a target token", "nats", ".3f"), ("Of the end token", "end_nats", ".2f"), ("Of the content", "content_nats", ".2f"),
            ("Gain over the base", "gain", "+.3f"), ("End token's share of it", "end_share", ".0%"),
            ("Share of Embed Tuning's gain", "of_whole", ".0%"),
        ) if shown[name].notna().any()},
        "Bits a character": shown.bits_per_character, "Perplexity": shown.perplexity,
        **{name.replace("nats Holm p against", "Holm p, against"): shown[name] for name in shown if name.startswith("nats Holm p")},
    }  # fmt: skip
    st.dataframe(
        pd.DataFrame(columns), hide_index=True, alt="Likelihood of the references under every arm",
        column_config={
            "Nats a target token": st.column_config.TextColumn(help="Minus the log-likelihood of the references. Less is better."),
            "Of the end token": st.column_config.TextColumn(help="Nats of the token that ends a reference, a sentence each: whether the model knows when to stop."),
            "Of the content": st.column_config.TextColumn(help="Nats a token of the references' own words."),
            "Gain over the base": st.column_config.TextColumn(help="In nats a target token of the base, over the same sentences."),
            "End token's share of it": st.column_config.TextColumn(help="How much of the gain is learning to stop. Empty where no gain is clear."),
            "Share of Embed Tuning's gain": st.column_config.TextColumn(help="Empty where Embed Tuning has no clear gain."),
            "Bits a character": st.column_config.NumberColumn(format="%.2f", help="The same likelihood, to be compared between tokenizers."),
            "Perplexity": st.column_config.NumberColumn(format="%.2f", help="e to the nats a target token."),
            **{c: st.column_config.NumberColumn(format="%.3g", help="Paired bootstrap of the likelihood, corrected for all p of it here (Holm).")
               for c in columns if "p, against" in c},
        },
    )  # fmt: skip
    st.caption(
        "How likely each arm finds the held-out references, with 95% bootstrap intervals; nothing is written for it."
    )


def _bounded(frame: pd.DataFrame, name: str, form: str) -> list[str]:
    """A column's values with their intervals, as text."""
    columns = (frame[name], frame[f"{name}_low"], frame[f"{name}_high"])
    return [
        "–" if pd.isna(v) else f"{v:{form}}" + ("" if pd.isna(low) else f" [{low:{form}}, {high:{form}}]")
        for v, low, high in zip(*columns, strict=True)
    ]


def _scores(frame: pd.DataFrame, ruled: str) -> None:
    """How the answers scored under every rule."""
    rules = comparison.rules_of(frame)
    metric = leading(name for name in TITLES if f"{name}_{rules[0]}" in frame)
    title = TITLES[metric]
    corrected = [c for c in frame if c.startswith("Holm p") and frame[c].notna().any()]
    pvalues = corrected or [c for c in frame if c.startswith("p against")]  # an older run's stand as they are
    shown = pd.DataFrame({
        "Arm": frame.arm, "Rows": [f"{n:,}" if n else "–" for n in frame.rows],
        "In ticket": ["–" if pd.isna(n) else f"{int(n):,}" for n in frame.in_ticket],
        "Steps": ["–" if pd.isna(n) else f"{int(n):,}" for n in frame.steps], "Trained values": frame.trainable,
        **{f"{title} {rule.replace('_', ' ')}": _interval(frame, metric, rule, ".2f", ".1f") for rule in rules},
        **{f"{TITLES['exact']} {rule.replace('_', ' ')}": _interval(frame, "exact", rule, ".1f", ".1f") for rule in rules if f"exact_{rule}" in frame},
        **{f"chrF {rule.replace('_', ' ')}": _interval(frame, "chrf", rule, ".1f", ".1f") for rule in ("raw", "first_line")},
        "Stops": [
            f"{100 * v:.0f}% [{100 * low:.0f}, {100 * high:.0f}]"
            for v, low, high in zip(frame.stop_rate, frame.stop_low, frame.stop_high, strict=True)
        ],
        "Length": frame.mean_length, "Time": [duration(s) for s in frame.training_seconds + frame.translating_seconds],
        **{name.replace("p against", "p, against"): frame[name] for name in pvalues},
    })  # fmt: skip
    st.dataframe(
        shown, hide_index=True, alt="Scores of every arm",
        column_config={
            "In ticket": st.column_config.TextColumn(help="How many of the arm's rows are rows of the ticket."),
            "Steps": st.column_config.TextColumn(help="Optimizer steps of the training."),
            "Trained values": st.column_config.NumberColumn(format="localized", help="Numbers that had a gradient."),
            "Stops": st.column_config.TextColumn(help="Answers that the model ended by itself, with the 95% interval of that share (Wilson)."),
            "Length": st.column_config.NumberColumn(format="%.0f", help="Mean length of the raw answer, in characters."),
            "Time": st.column_config.TextColumn(help="Training and translating, on the machine that ran it."),
            **{c: st.column_config.NumberColumn(format="%.3g", help=f"Paired bootstrap of {plain(title)} under {plain(ruled)}" + (", corrected for all p of the run (Holm)." if corrected else ", not corrected."))
               for c in shown if "p, against" in c},
        },
    )  # fmt: skip
    st.caption(
        f"{plain(title)} and chrF with their 95% bootstrap intervals under each extraction rule; the references are never looked at to cut."
    )


def _interval(frame: pd.DataFrame, metric: str, rule: str, form: str, bounds: str) -> list[str]:
    columns = (frame[f"{metric}{part}_{rule}"] for part in ("", "_low", "_high"))
    return [f"{v:{form}} [{low:{bounds}}, {high:{bounds}}]" for v, low, high in zip(*columns, strict=True)]
