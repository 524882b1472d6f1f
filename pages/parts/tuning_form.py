"""The choices of a run: text, prompt, ticket, arms, scoring."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import Any

import pandas as pd
import streamlit as st

from ks_core.errors import KSLotteryError, SettingsError
from ks_core.jobs import Allocation
from ks_core.study import Study
from ks_core.translation import (
    TEMPLATES,
    Corpus,
    format_prompt,
    language_name,
    parallel_text,
    template_title,
    usual_prompt,
)
from ks_core.tuning import ARMS, OPTIMIZERS, ROW_RECIPE, SCHEDULES, Arm, CorpusChoice, Plan, Recipe, runnable
from pages.parts import pair, place, say, ticket_rule
from pages.parts.say import plain

OWN = {"file": "A TSV or JSONL file", "flores": "A folder in Flores layout", "hub": "A dataset on the hub"}
SWEEP = (0.5, 0.3, 0.2, 0.1, 0.05, 0.03, 0.01, 3e-3, 1e-3, 3e-4, 1e-4, 1e-5)
DEFAULT = ("base", "tuned", "transfer", "partial", "paired", "partners", "rows")


@st.cache_resource(max_entries=4, show_spinner="Reading the text …")
def read(choice: dict[str, Any], _version: int = 1) -> Corpus:
    """A corpus, held for all sessions as it is: nothing changes one, and a copy of a large one for each visit takes long."""
    return CorpusChoice(**choice).load()


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
        found = corpus()
    with right, st.container(border=True, height="stretch"):
        template = prompt(found[1] if found else None, study.base_source)
    with st.container(border=True):
        given, rule, k, size = _ticket(study, alpha)
        arms = _arms(study, given)
    with st.expander("Scoring and device", icon=":material/tune:"), st.container(horizontal=True):
        sentences = st.number_input(
            "Held-out sentences", 1, 5000, 64, key="tune_sentences",
            help="How many of the held-out pairs are translated by every arm. More make the intervals narrower.",
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


def corpus() -> tuple[CorpusChoice, Corpus] | None:
    """The chosen text, read; ``None`` while it is not named or cannot be read, which is said."""
    st.header("Text")
    packs = [f"pack:{code}" for code in parallel_text.installed_packs()]
    names = {name: f"English to {language_name(name[5:])} (menus and messages of JupyterLab)" for name in packs} | OWN
    kind = st.selectbox(
        "Parallel text", list(names), format_func=lambda name: names[name], key="tune_corpus", bind="query-params",
        index=packs.index("pack:fr-FR") if "pack:fr-FR" in packs else 0,
        help="Other languages: pip install jupyterlab-language-pack-de-DE, and so on.",
    )  # fmt: skip
    settings: dict[str, Any] = {"name": kind}
    if kind in OWN:
        what = {"file": "pairs.tsv or pairs.jsonl", "flores": "folder#eng,cat", "hub": "org/name#source,target"}[kind]
        where = st.text_input("Where", placeholder=what, key="tune_where", bind="query-params").strip()
        settings["name"] = f"{kind}:{where}"
        with st.container(horizontal=True):
            if kind == "file":
                settings["source_field"] = st.text_input(
                    "Source field (JSONL)", "source", key="tune_source_field", bind="query-params"
                )
                settings["target_field"] = st.text_input(
                    "Target field (JSONL)", "target", key="tune_target_field", bind="query-params"
                )
            settings["source_language"] = st.text_input(
                "From", placeholder="English", key="tune_from", bind="query-params"
            )
            settings["target_language"] = st.text_input("To", placeholder="French", key="tune_to", bind="query-params")
        if not where:
            st.caption(f"Expected: {what}.")
            return None
    shortest, longest = st.slider(
        "Words of a source sentence", 1, 60, (3, 16), key="tune_words", help="Longer and shorter pairs are left out."
    )
    choice = CorpusChoice(**settings, shortest=shortest, longest=longest)
    try:
        found = read(asdict(choice))
    except KSLotteryError as error:
        say.error(error)
        return None
    dropped = ", ".join(f"{n:,} {why}" for why, n in found.dropped.items()) or "nothing"
    st.write(
        f"**{len(found.train):,}** pairs to train on, **{len(found.test):,}** to score on, **{len(found.development):,}** to choose "
        f"settings by. Left out: {plain(dropped)}."
    )
    with st.expander("Look at the held-out part"):
        st.dataframe(
            pd.DataFrame({found.source_language: [p.source for p in found.held_out[:100]],
                          found.target_language: [p.target for p in found.held_out[:100]]}),
            hide_index=True, alt="The first held-out pairs",
        )  # fmt: skip
    return choice, found


def prompt(text: Corpus | None, base: str) -> str:
    """The chosen prompt for a base: a template's name, or the user's own text. Shown on the first held-out sentence."""
    st.header("Prompt")
    name = st.selectbox(
        "Template",
        [*TEMPLATES, "own"],
        index=list(TEMPLATES).index(usual_prompt(runnable.reads_with_encoder(base))),
        key="tune_prompt",
        help="A ticket is keyed to the prompt that it was trained with.",
        format_func=lambda name: "My own text" if name == "own" else template_title(name),
    )
    own = st.text_area(
        "Text", TEMPLATES["short" if name == "own" else name].text, disabled=name != "own", key=f"tune_prompt_{name}", height=118,
        help="{source} is the sentence; {source_language} and {target_language} are the languages' names.",
    )  # fmt: skip
    chosen = own if name == "own" else str(name)
    if text:
        example = format_prompt(chosen, text.held_out[0].source, text.source_language, text.target_language)
        st.caption("The model reads, and its answer begins where this ends:")
        st.code(example, language=None, wrap_lines=True)
    return chosen


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
    if not chosen:
        say.info("Choose at least one arm.")
        return None
    tokens = _tokens(study, words) if "rows" in chosen else ()
    arms = []
    for kind in chosen:
        label = f"Row {words.strip()}" if kind == "rows" and len(tokens) == 1 else ""
        for seed in range(int(seeds) if ARMS[kind].seeded else 1):
            arms.append(Arm(kind, tokens=tokens if kind == "rows" else (), seed=seed, label=label))
    trained = [arm for arm in arms if arm.recipe]
    return tuple(_settings(arms, trained)) if trained else tuple(arms)


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
