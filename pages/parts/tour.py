"""The three questions of the Overview, each with its answer, its picture and the way to what is behind: how many rows moved, what they
buy, and whether that is theirs. Where nothing answers the last two, what answering them takes here, and the button that has it done."""

from __future__ import annotations

from dataclasses import asdict
from functools import partial
from typing import Any

import streamlit as st

from ks_core.audit import LANE, Audit, Evidence, costs, glance, left, structural_row, waterfall
from ks_core.errors import KSLotteryError
from ks_core.jobs import duration, submit
from ks_core.ledger import figures as ledger_figures
from ks_core.store import access
from ks_core.study import Scan, Study, figures
from ks_core.tuning import estimates, trainings
from pages.parts import audited, charts, job, place, say, tuning_text
from pages.parts.say import plain

#: The height of a picture, in pixels: three stand side by side, above the fold.
HEIGHT = 260
#: What a step of the audit does, by its kind of job.
ABOUT = {
    "rules": "which rows carry the gain, a training on noise, the rules that compete with the test",
    "tune": "the ticket's rows beside others, copied and trained",
    "audit": "where it acts, other prompts, strength, the certificate",
}


def known(study: Study, scan: Scan, alpha: float) -> Evidence | None:
    """What is known of the pair's winners, asked before anybody chose: on the text and the prompt of its training, where these are known.
    ``None`` for what cannot be asked, with the reason."""
    training = trainings.of(study.tuned_source)
    about = {"corpus": training.corpus, "prompt": training.prompt} if training else {}
    try:
        return glance(Audit.of(study, alpha=alpha, **about), scan)
    except KSLotteryError as error:
        say.info(error)
        return None


def moved(scan: Scan, alpha: float, signature: str) -> None:
    """How many rows moved."""
    st.subheader("How many rows moved?", anchor=False)
    wins, changed = int(scan.winners(alpha).sum()), int(scan.changed.sum())
    st.write(
        f"Of {len(scan.pvalue):,} rows {changed:,} changed, and **{wins:,} so much that p < {alpha:g}**: the ticket."
    )
    _picture(partial(figures.pvalue_histogram, scan.pvalue, scan.changed, alpha, log=False), "overview-p", signature)
    _ways(("ks_test", "The test"), ("winning_tokens", "The tokens"), ("drift_map", "Where they went"))


def worth(found: Evidence) -> None:
    """What the ticket's rows buy."""
    st.subheader("What do they buy?", anchor=False)
    if found.account:
        st.write(plain(found.account.worth))
    if steps := found.waterfall:
        if not found.account:
            st.write(plain(steps.sentence))
        _picture(partial(waterfall.figure, steps, brief=True), "overview-waterfall", steps.signature)
    _ways(("which_rule", "All rules, row by row"), ("fine_tune", "Scores and translations"))


def real(found: Evidence) -> None:
    """Whether that is the ticket's doing."""
    st.subheader("Is it real?", anchor=False)
    st.markdown("\n".join(f"- {plain(said)}" for said in found.doubts) or "Nothing that was run speaks against it.")
    if known := found.account:
        _picture(partial(ledger_figures.gain_curves, known.result), "overview-rules", known.result["signature"])
    _ways(("audit", "The verdict, panel by panel"), ("certificate", "The certificate"))


def to_run(found: Evidence) -> None:
    """What is still to be run, what each step takes here, and one button for all of it, or how far it is; what came with the program."""
    asked, scan = found.audit, found.scan
    if found.shipped:
        st.caption(f":material/inventory_2: {plain(found.shipped)} The page Audit has the button that makes it anew.")
    if not (steps := left(asked, scan)):
        return
    with st.container(border=True):
        st.subheader("Not known yet: what the ticket buys, and whether it is real", anchor=False)
        if not audited.is_whole(asked):
            return
        running = job.latest("whole", asked.as_dict())
        if running and running.state in ("queued", "running"):
            job.follow(running)
            return
        if running and running.state == "failed":
            say.error(running.error)
        try:
            plan, corpus = asked.controls(structural_row(asked)), tuning_text.read(asdict(asked.corpus))
        except KSLotteryError as error:
            say.info(error)
            return
        rates = estimates.known(plan)
        st.write(f"To be run, on {plain(asked.corpus.name)}, by the likelihood of {asked.sentences:,} references:")
        if rates:
            told = costs(asked, steps, corpus, rates)
            st.markdown(
                "\n".join(
                    f"- {plain(step.label)}: about {plain(duration(seconds))}: {ABOUT[step.kind]}"
                    for step, (_, seconds) in zip(steps, told, strict=True)
                )
            )
            st.caption(
                f"Together about {plain(duration(sum(seconds for _, seconds in told)))} on this machine, which was measured for this model, "
                "and a minute or two for the calibration. What is finished is kept, also when it is stopped."
            )
        else:
            st.markdown("\n".join(f"- {plain(step.label)}: {ABOUT[step.kind]}" for step in steps))
        with st.container(horizontal=True):
            if job.button("Run everything", icon=":material/playlist_play:", type="primary"):
                submit("whole", asked.as_dict(), label="Everything", device=LANE)
                st.rerun()
            st.page_link("pages/audit.py", label="Another text, prompt or budget", icon=":material/tune:")
        if not rates and not access.read_only():
            place.measuring(plan, None)


def _picture(draw: partial[Any], name: str, signature: str) -> None:
    charts.chart(draw, name, signature, height=HEIGHT)


def _ways(*pages: tuple[str, str]) -> None:
    """The ways to what is behind an answer."""
    with st.container(horizontal=True):
        for page, words in pages:
            st.page_link(f"pages/{page}.py", label=plain(words), icon=":material/arrow_forward:")
