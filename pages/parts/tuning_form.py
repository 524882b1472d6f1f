"""The choices of a run: text, prompt, ticket, arms, scoring."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import pandas as pd
import streamlit as st

from ks_core.errors import SettingsError
from ks_core.jobs import Allocation
from ks_core.study import Study
from ks_core.translation import Corpus
from ks_core.tuning import ARMS, OPTIMIZERS, ROW_RECIPE, SCHEDULES, Arm, Plan, Recipe, runnable
from pages.parts import pair, place, say, ticket_rule, tuning_text
from pages.parts.say import plain

SWEEP = (0.5, 0.3, 0.2, 0.1, 0.05, 0.03, 0.01, 3e-3, 1e-3, 3e-4, 1e-4, 1e-5)
DEFAULT = ("base", "tuned", "transfer", "partial", "paired", "partners", "rows")


@dataclass(frozen=True)
class Chosen:
    """A plan, its text, where it is to run (``None``: here), and how many rows its ticket has."""

    plan: Plan
    corpus: Corpus
    allocation: Allocation | None
    ticket: int


def form(study: Study, alpha: float) -> Chosen | None:
    """What the widgets describe; ``None`` while something is missing, which it says."""
    left, right = st.columns(2)
    with left, st.container(border=True, height="stretch"):
        found = tuning_text.corpus()
    with right, st.container(border=True, height="stretch"):
        template = tuning_text.prompt(found[1] if found else None, study.base_source)
    with st.container(border=True):
        given, rule, k, size = _ticket(study, alpha)
        arms = _arms(study, given)
    with st.expander("Scoring and device", icon=":material/tune:"), st.container(horizontal=True):
        sentences = st.number_input(
            "Held-out sentences", 1, 5000, 64, key="tune_sentences",
            help="How many of the held-out pairs are answered by every arm. More make the intervals narrower.",
        )  # fmt: skip
        limit = st.number_input("Most new tokens", 1, 1024, 48, key="tune_limit", help="Where an answer is cut off.")
        beams = st.number_input("Beams", 1, 16, 1, key="tune_beams", help="1 is greedy decoding.")
        device = st.selectbox("Device", ["auto", "cuda", "mps", "cpu"], key="tune_device")
        sweep = st.toggle(
            "Sweep over alpha", key="tune_sweep",
            help="Partial Transfer at a dozen alphas, from 0.5 to 0.00001: no training, one translation per ticket size.",
        )  # fmt: skip
    resources, allocation = place.choose("tune", str(device))
    if not found or arms is None:
        return None
    plan = Plan(
        base=study.base_source, tuned=study.tuned_source if given else "", rule=rule, alpha=alpha, k=k, corpus=found[0],
        prompt=template, arms=arms, sentences=int(sentences), max_new_tokens=int(limit), beams=int(beams),
        sweep=SWEEP if sweep else (), device=device,
        resources=resources,
    )  # fmt: skip
    return Chosen(plan, found[1], allocation, size)


def _ticket(study: Study, alpha: float) -> tuple[bool, str, int, int]:
    """Whether the ticket is that of the pair in the sidebar, the rule, k, and how many rows it has (a guess for a new one)."""
    st.header("Ticket and arms")
    with st.container(horizontal=True, vertical_alignment="bottom"):
        given = st.radio(
            "Whose ticket", [True, False], key="tune_given", horizontal=True,
            format_func=lambda given: f"{plain(study.tuned.label)}'s" if given else "a new Embed Tuning's, trained in this run",
        )  # fmt: skip
        rule, k = ticket_rule.choose("Rule", "tune_")
    size = 1000
    if given:
        scan = pair.scan(study)
        size = len(ticket_rule.rows(study, scan, rule, alpha, k))
        st.caption(f"{size:,} rows at alpha {alpha:g}. Alpha and the pair are chosen in the sidebar.")
    return bool(given), rule, k, size


def _arms(study: Study, given: bool) -> tuple[Arm, ...] | None:
    kinds = [kind for kind in ARMS if given or kind != "tuned"]
    first, *others = (
        [k for k in DEFAULT if k in kinds] if given else ["base", "embed", "transfer", "partial", "paired", "partners"]
    )
    default = [first, *runnable.usual_baselines(study.base_source), *others]
    chosen = st.multiselect(
        "Arms", kinds, default, format_func=lambda kind: ARMS[kind].title, key=f"tune_arms_{given}",
        help="  \n".join(f"**{kind.title}**: {kind.about}" for kind in ARMS.values()),
    )  # fmt: skip
    with st.container(horizontal=True, vertical_alignment="bottom"):
        seeds = st.number_input(
            "Seeds of the random arms", 1, 10, 1, key="tune_seeds", disabled=not any(ARMS[kind].seeded for kind in chosen),
            help="Each seed is an arm of its own, so that chance is seen as chance.",
        )  # fmt: skip
        words = st.text_input(
            "Tokens of the arm Chosen rows", "⏎", key="tune_rows", bind="query-params", disabled="rows" not in chosen,
            help="Tokens as the page Winning tokens shows them, or ids, with spaces between. ⏎ is the newline: one row "
            "of the prompt's frame, which in the replication gave nearly all of the gain.",
        )  # fmt: skip
        virtual, projected = _prefix() if "prefix" in chosen else (Arm.virtual_tokens, Arm.projection)
    if not chosen:
        say.info("Choose at least one arm.")
        return None
    tokens = _tokens(study, words) if "rows" in chosen else ()
    arms = []
    for kind in chosen:
        label = f"Row {words.strip()}" if kind == "rows" and len(tokens) == 1 else ""
        for seed in range(int(seeds) if ARMS[kind].seeded else 1):
            own: dict[str, Any] = {"virtual_tokens": virtual, "projection": projected} if kind == "prefix" else {}
            arms.append(Arm(kind, tokens=tokens if kind == "rows" else (), seed=seed, label=label, **own))
    trained = [arm for arm in arms if arm.recipe]
    return tuple(_settings(arms, trained)) if trained else tuple(arms)


def _prefix() -> tuple[int, bool]:
    """The settings of the arm Prefix tuning: how many virtual tokens, and whether they are projected."""
    count = st.number_input(
        "Virtual tokens of the prefix", 1, 1000, Arm.virtual_tokens, key="tune_virtual",
        help="For so many words stand the keys and values before the text; the model reads that much less of it.",
    )  # fmt: skip
    projected = st.toggle(
        "Projected", key="tune_projected",
        help="The prefix comes out of a small network that is trained in its place, as its authors did it: more values are "
        "trained, and what is saved is the prefix alone.",
    )  # fmt: skip
    return int(count), bool(projected)


def _tokens(study: Study, words: str) -> tuple[int, ...]:
    vocabulary = study.base.vocabulary
    ids: list[int] = []
    for word in words.split():
        found = [int(word)] if word.isdecimal() else vocabulary.ids_of(word) if vocabulary else []
        if not found:
            raise SettingsError(
                f"{word} is no token of the base. Write it as the page Winning tokens shows it, or its id."
            )
        ids.append(found[0])
    return tuple(ids)


def _settings(arms: list[Arm], trained: list[Arm]) -> list[Arm]:
    """How each arm is trained: a table that can be edited."""
    names = ["steps", "batch_size", "learning_rate", "optimizer", "schedule", "warmup", "beta1", "beta2", "seed"]
    with st.expander("How each arm is trained", icon=":material/tune:"):
        frame = pd.DataFrame([{"arm": a.name, "k": a.k, **{n: getattr(a.recipe, n) for n in names}} for a in trained])
        frame["k"] = frame.k.astype("Int64")
        edited = st.data_editor(
            frame, hide_index=True, disabled=["arm"], key=f"tune_recipes_{'-'.join(a.name for a in trained)}",
            column_config={
                "arm": "Arm",
                "k": st.column_config.NumberColumn("Rows", min_value=1, help="Empty: as many as the ticket has."),
                "steps": st.column_config.NumberColumn("Steps", min_value=1, required=True),
                "batch_size": st.column_config.NumberColumn("Pairs a step", min_value=1, required=True),
                "learning_rate": st.column_config.NumberColumn("Learning rate", format="%g", required=True),
                "optimizer": st.column_config.SelectboxColumn("Optimizer", options=list(OPTIMIZERS), required=True),
                "schedule": st.column_config.SelectboxColumn("Schedule", options=list(SCHEDULES), required=True),
                "warmup": st.column_config.NumberColumn("Warm-up steps", min_value=0, required=True),
                "beta1": st.column_config.NumberColumn("Beta 1", format="%g", required=True),
                "beta2": st.column_config.NumberColumn("Beta 2", format="%g", required=True),
                "seed": st.column_config.NumberColumn("Seed", min_value=0, required=True),
            },
        )  # fmt: skip
        st.caption(
            "adam_per_row and rowwise_adam step only the rows in the batch; the first corrects its moments by each row's own count "
            "of steps, the second, which the demo was trained with, by the training's. Dense Adam goes on moving rows that were seen "
            "once, and D then says little about use; it is there to show that."
        )
    changed = {}
    for arm, row in zip(trained, edited.to_dict("records"), strict=True):
        recipe = Recipe(**{n: type(getattr(ROW_RECIPE, n))(row[n]) for n in names})
        changed[id(arm)] = replace(arm, recipe=recipe, k=None if pd.isna(row["k"]) else int(row["k"]))
    return [changed.get(id(arm), arm) for arm in arms]
