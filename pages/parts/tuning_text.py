"""The text of a run, and the prompt that it is put under: widgets of Fine-tune and of what asks the same."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import pandas as pd
import streamlit as st

from ks_core.errors import KSLotteryError
from ks_core.translation import (
    TASKS,
    TEMPLATES,
    TEXT,
    Corpus,
    Task,
    format_prompt,
    language_name,
    parallel_text,
    template_title,
    usual_prompt,
)
from ks_core.tuning import CorpusChoice, runnable
from pages.parts import say
from pages.parts.say import plain

OWN = {"file": "A TSV or JSONL file", "flores": "A folder in Flores layout", "hub": "A dataset on the hub"}


@st.cache_resource(max_entries=4, show_spinner="Reading the text …")
def read(choice: dict[str, Any], _version: int = 1) -> Corpus:
    """A corpus, held for all sessions as it is: nothing changes one, and a copy of a large one for each visit takes long."""
    return CorpusChoice(**choice).load()


def corpus() -> tuple[CorpusChoice, Corpus] | None:
    """The chosen text, read; ``None`` while it is not named or cannot be read, which is said."""
    st.header("Text")
    task = TASKS[
        str(
            st.segmented_control(
                "Task", list(TASKS), default=next(iter(TASKS)), required=True, key="tune_task", bind="query-params",
                format_func=lambda name: plain(TASKS[name].title), help="  \n".join(f"**{kind.title}**: {kind.about}" for kind in TASKS.values()),
            )
        )
    ]  # fmt: skip
    settings = _text_to_text(task) if task.name == TEXT else _parallel()
    if settings is None:
        return None
    most = 60 if task.name != TEXT else 1000
    shortest, longest = st.slider(
        "Words of a source sentence" if task.name != TEXT else "Words of a prompt", 1, most, (task.shortest, task.longest),
        key="tune_words" if task.name != TEXT else "tune_words_text", help="Longer and shorter pairs are left out.",
    )  # fmt: skip
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
            pd.DataFrame({found.source_language or "Prompt": [p.source for p in found.held_out[:100]],
                          found.target_language or "Answer": [p.target for p in found.held_out[:100]]}),
            hide_index=True, alt="The first held-out pairs",
        )  # fmt: skip
    return choice, found


def _parallel() -> dict[str, Any] | None:
    """Where a text and its translation are; ``None`` while that is not named."""
    packs = [f"pack:{code}" for code in parallel_text.installed_packs()]
    names = {name: f"English to {language_name(name[5:])} (menus and messages of JupyterLab)" for name in packs} | OWN
    kind = st.selectbox(
        "Parallel text", list(names), format_func=lambda name: names[name], key="tune_corpus", bind="query-params",
        index=packs.index("pack:fr-FR") if "pack:fr-FR" in packs else 0,
        help="Other languages: pip install jupyterlab-language-pack-de-DE, and so on.",
    )  # fmt: skip
    settings: dict[str, Any] = {"name": kind}
    if kind not in OWN:
        return settings
    what = {"file": "pairs.tsv or pairs.jsonl", "flores": "folder#eng,cat", "hub": "org/name#source,target"}[kind]
    where = st.text_input("Where", placeholder=what, key="tune_where", bind="query-params").strip()
    settings["name"] = f"{kind}:{where}"
    with st.container(horizontal=True):
        if kind == "file":
            settings |= _fields(*TASKS["translation"].fields)
        settings["source_language"] = st.text_input("From", placeholder="English", key="tune_from", bind="query-params")
        settings["target_language"] = st.text_input("To", placeholder="French", key="tune_to", bind="query-params")
    if not where:
        st.caption(f"Expected: {what}.")
        return None
    return settings


def _fields(source: str, target: str, suffix: str = "") -> dict[str, str]:
    """The names of the two fields of a JSONL file; with a suffix those of prompts and answers."""
    return {
        "source_field": st.text_input(
            "Prompt field (JSONL)" if suffix else "Source field (JSONL)", source, key=f"tune_source_field{suffix}", bind="query-params"
        ),
        "target_field": st.text_input(
            "Answer field (JSONL)" if suffix else "Target field (JSONL)", target, key=f"tune_target_field{suffix}", bind="query-params"
        ),
    }  # fmt: skip


def _text_to_text(task: Task) -> dict[str, Any] | None:
    """Where prompts and their answers are; ``None`` while that is not named."""
    kind = st.selectbox(
        "Prompts and answers",
        ["file", "hub"],
        format_func=lambda name: OWN[name],
        key="tune_prompts_in",
        bind="query-params",
    )
    what = {"file": "answers.jsonl or answers.tsv", "hub": "org/name#prompt,answer"}[kind]
    where = st.text_input("Where", placeholder=what, key="tune_where_text", bind="query-params").strip()
    settings: dict[str, Any] = {"name": f"{kind}:{where}", "task": task.name}
    if kind == "file":
        with st.container(horizontal=True):
            settings |= _fields(*task.fields, suffix="_text")
    if not where:
        st.caption(f"Expected: {what}.")
        return None
    return settings


@st.cache_data(max_entries=8, show_spinner="Reading the chat template …")
def _chat(base: str, _version: int = 1) -> str:
    """What a base's chat template makes of a prompt."""
    from ks_core.tuning import chat_prompt  # loads torch, which no page does that is only looked at

    return chat_prompt(base)


def prompt(text: Corpus | None, base: str) -> str:
    """The chosen prompt for a base: a template's name, or the user's own text. Shown on the first held-out sentence."""
    st.header("Prompt")
    task = text.task if text else TASKS["translation"]
    names = [name for name, known in TEMPLATES.items() if task.name in known.tasks]
    chat = task.name == TEXT and runnable.has_chat_template(base)
    suffix = "" if task.name != TEXT else "_text"
    titles = {
        "own": "My own text",
        "chat": "The base's chat template",
        **({"source": "The prompt as it is"} if suffix else {}),
    }
    name = st.selectbox(
        "Template",
        [*names, *(["chat"] if chat else []), "own"],
        index=names.index(usual_prompt(runnable.reads_with_encoder(base), task.name)),
        key=f"tune_prompt{suffix}",
        help="A ticket is keyed to the prompt that it was trained with.",
        format_func=lambda name: titles.get(name) or template_title(name),
    )
    usual = TEMPLATES[usual_prompt(False, task.name)].text
    shown = _chat(base) if name == "chat" else usual if name == "own" else TEMPLATES[name].text
    own = st.text_area(
        "Text", shown, disabled=name != "own", key=f"tune_prompt_{name}{suffix}", height=118,
        help="{source} is the sentence; {source_language} and {target_language} are the languages' names."
        if task.name != TEXT else "{source} is the prompt as it stands in the text.",
    )  # fmt: skip
    chosen = own if name == "own" else _chat(base) if name == "chat" else str(name)
    if text:
        example = format_prompt(chosen, text.held_out[0].source, text.source_language, text.target_language)
        st.caption("The model reads, and its answer begins where this ends:")
        st.code(example, language=None, wrap_lines=True)
    return chosen
