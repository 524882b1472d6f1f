"""The lessons on tickets: how one is chosen, what is done with it, what its gain may be, and the questions."""

from __future__ import annotations

from functools import partial

import numpy as np
import pandas as pd
import streamlit as st

from ks_core.checkpoints import demo
from ks_core.jobs import Job, all_jobs, devices
from ks_core.signature import Signature, versions
from ks_core.study import figures, readable
from ks_core.teaching import QUESTIONS, cite, figures as lesson_figures
from ks_core.tickets import select, sizes
from ks_core.translation import dropped, part_of, read_answers
from ks_core.tuning import Arm, Plan
from pages.parts import charts, job, pair, provenance, say
from pages.parts.say import plain
from pages.parts.small import small
from pages.parts.tuning_results import RULE_HELP

#: What the base and the tuned demo model are asked for the lesson: a few sentences, half a minute.
ASKED = Plan(arms=(Arm("base"), Arm("tuned")), sentences=16)
NAMED = {
    "raw": "Raw: all that it wrote",
    "first_line": "First line",
    "prompt_restart": "Until it begins the prompt anew",
}


def ticket() -> None:
    """One test per token, and the ticket that a bound makes of them."""
    study = pair.study()
    scan = pair.scan(study)
    alpha = pair.alpha()
    winners = scan.winners(alpha)
    st.write(
        f"Now the real pair of the sidebar: {len(scan.pvalue):,} tokens, one test each. **The ticket is every token with p < {alpha:g}**: "
        f"{int(winners.sum()):,} of the {int(scan.changed.sum()):,} whose rows changed at all. Change alpha in the sidebar and watch it grow."
    )
    signature = str(scan.signature.with_fields(alpha=f"{alpha:g}"))
    left, right = st.columns([2, 1])
    with left:
        alphas = np.logspace(-12, np.log10(0.999), 200)
        charts.chart(
            partial(figures.ticket_size_curve, alphas, sizes(scan, alphas), alpha, int(winners.sum())),
            "learn-size",
            signature,
        )
    with right:
        kept = {name: len(select(scan, rule=rule, alpha=alpha)) for rule, name in (
            ("alpha", "p < alpha (the paper)"), ("benjamini-hochberg", "Benjamini-Hochberg"), ("bonferroni", "Bonferroni"))}  # fmt: skip
        st.dataframe(
            pd.DataFrame({"Rule": kept.keys(), "Rows": kept.values()}), hide_index=True, alt="How many rows each rule keeps",
            column_config={"Rows": st.column_config.NumberColumn(format="localized")},
        )  # fmt: skip
        strings = study.token_strings()
        first = [readable(strings, int(i)) for i in scan.token_ids[scan.order()[:12]]]
        st.markdown("The largest shifts: " + " ".join(f":gray-badge[{plain(token)}]" for token in first))
    st.write(
        f"If the rows were independent draws, {alpha * len(scan.pvalue):,.0f} of {len(scan.pvalue):,} would win by chance alone. They are not, as the "
        "step before showed, so neither that number nor a correction says how many winners are false. A ticket is a **list of what moved most**."
    )
    small(cite("paper", "bh", "here"))


def methods() -> None:
    """What Embed Tuning, Partial Transfer and Partial Tuning do, as a drawing that moves."""
    st.write(
        "Three ways to use a ticket's rows. Press **Play**, or go from scene to scene with the slider. Blue is the base; the more a row was trained, "
        "the more it turns orange; red is a row that won."
    )
    charts.chart(partial(lesson_figures.methods), "learn-methods", str(Signature({"drawing": "methods", **versions()})))
    st.dataframe(
        pd.DataFrame(
            [("Embed Tuning", "every row", "yes", "the reference that the ticket is read from"),
             ("Partial Transfer", "the ticket's rows", "no", "are the moved rows enough?"),
             ("Partial Tuning", "the ticket's rows", "yes", "can these rows alone learn the task?")],
            columns=["Method", "What changes", "Trained", "What it asks"],
        ), hide_index=True, alt="The three methods",
    )  # fmt: skip
    st.write(
        "In the paper Partial Tuning of 18 rows of LLaMA-7B (32,000 rows) scores nearly as Embed Tuning does. The next step asks why."
    )
    small("The drawing is made up: ten rows, three of which win. " + cite("paper"))


def stopping() -> None:
    """What the demo model really wrote, before and after, under the three rules."""
    st.write(
        "A model that was never taught to stop writes the translation, a line break, and then more: another sentence, the prompt again. "
        "A score of **all that it wrote** punishes that, and a ticket that teaches it to stop looks like one that teaches it to translate. "
        "These are real answers of the demo model; choose where they are cut."
    )
    run = _asked_before()
    if run is None:
        say.info(
            "The demo model has not been asked yet. It takes about a minute on two cores, once.", icon="hourglass_empty"
        )
        job.make(
            "tune",
            ASKED.as_dict(),
            "Asking the demo model",
            button="Ask the demo model",
            device=devices.select(ASKED.device),
        )
    provenance.of_job(run.shipped, "tune", ASKED.as_dict(), "Asking the demo model", ASKED.device)
    rule = str(st.segmented_control("Where an answer ends", list(NAMED), default="raw", required=True, key="learn_rule", help=RULE_HELP,
                                    format_func=NAMED.__getitem__))  # fmt: skip
    plan = Plan.from_dict(run.request["parameters"])
    arms = {arm["kind"]: arm for arm in run.result["arms"] if arm["kind"] in ("base", "tuned")}
    answers = {kind: read_answers(run.folder, arm) for kind, arm in arms.items()}
    pairs = plan.corpus.load().part(part_of(run.result["signature"]))
    number = (
        int(st.number_input(f"Sentence (of {len(answers['base'])})", 1, len(answers["base"]), 1, key="learn_sentence"))
        - 1
    )
    st.markdown(f"**Source** {plain(pairs[number].source)}  \n**Reference** {plain(pairs[number].target)}")
    for column, (kind, title) in zip(st.columns(2), (("base", "Base"), ("tuned", "Tuned")), strict=True):
        answer = answers[kind][number]
        text = answer.answer(rule)
        cut = dropped(answer.answer("raw"), text)
        with column, st.container(border=True):
            st.markdown(f"**{plain(title)}**: {'it stopped by itself' if answer.stopped else 'it ran on to the limit'}")
            st.code(text or "(nothing)", language=None, wrap_lines=True)
            if cut:
                st.caption(f"Cut off, {len(cut):,} characters: {plain(cut.strip()[:160])} …")
    scores = pd.DataFrame([
        {"Rule": NAMED[name], **{f"{title} {metric}": arms[kind]["evaluation"]["scores"][name][key]["value"]
                                 for metric, key in (("chrF", "chrf"), ("BLEU", "bleu")) for kind, title in (("base", "Base"), ("tuned", "Tuned"))}}
        for name in NAMED
    ])  # fmt: skip
    gains = {}
    for metric in ("chrF", "BLEU"):
        gains[metric] = scores[f"Tuned {metric}"] - scores[f"Base {metric}"]
        scores[f"Gain, {metric}"] = gains[metric]
    st.dataframe(
        scores, hide_index=True, alt="Scores of the base and the tuned demo model under the three rules",
        column_config={name: st.column_config.NumberColumn(format="%.1f") for name in scores.columns[1:]},
    )  # fmt: skip
    stops = {kind: arms[kind]["evaluation"]["stop_rate"] for kind in arms}
    raw, first = (list(NAMED).index(name) for name in ("raw", "first_line"))
    st.write(
        f"**Here**, on {len(answers['base'])} held-out sentences, the base ends {stops['base']:.0%} of its answers by itself and the tuned model "
        f"{stops['tuned']:.0%}. Of the gain in BLEU, {gains['BLEU'][raw]:.1f} on raw answers, {gains['BLEU'][first]:.1f} remain when each is cut at its "
        f"first line; in chrF {gains['chrF'][first]:.1f} of {gains['chrF'][raw]:.1f}. What remains cannot be stopping. "
        "**Published** for LLaMA-7B, English to Catalan: the ticket gains 29.5 spBLEU on raw answers, and 1.7 at the first line."
    )
    st.page_link("pages/audit.py", label="The same question, asked of your own ticket", icon=":material/gavel:")
    small(
        f"Run {plain(run.id)}, signature {plain(run.result['signature'])}  \n"
        + cite("program", "replication", "chrf", "bleu")
    )


def questions() -> None:
    """Six questions; each answer is explained once one was chosen."""
    st.write("What would you answer? Each choice is explained at once.")
    right = 0
    for number, question in enumerate(QUESTIONS):
        with st.container(border=True):
            chosen = st.radio(
                f"**{number + 1:d}.** {question.text}", question.options, index=None, key=f"learn_question_{number}"
            )
            if chosen is not None:
                hit = question.options.index(chosen) == question.right
                right += hit
                said = "Yes." if hit else f"Rather: {question.options[question.right]}."
                if hit:
                    say.success(f"{said} {question.why}", icon="check")
                else:
                    say.warning(f"{said} {question.why}", icon="close")
                small(cite(*question.sources))
    st.metric("Right so far", f"{right} of {len(QUESTIONS)}", border=True)


def _asked_before() -> Job | None:
    """A finished run on the demo that has both models' answers under the plain prompt: any will do."""
    for run in all_jobs("tune"):
        if run.state != "done":
            continue
        plan = run.request.get("parameters", {})
        if (plan.get("base"), plan.get("tuned"), plan.get("prompt")) != (demo.BASE, demo.TUNED, ASKED.prompt):
            continue
        if {"base", "tuned"} <= {arm.get("kind") for arm in run.result.get("arms", []) if arm.get("evaluation")}:
            return run
    return None
