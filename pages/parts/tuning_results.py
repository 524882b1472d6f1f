"""What a run gave: table, chart, translations, losses, files."""

from __future__ import annotations

import io
import zipfile
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd
import streamlit as st

from ks_core.errors import KSLotteryError
from ks_core.jobs import Job, resume
from ks_core.ledger import as_well
from ks_core.store import access, door, workspace
from ks_core.study import Study
from ks_core.translation import TASKS, TEXT, TITLES, dropped, part_of, read_answers
from ks_core.tuning import comparison, figures as tuning_figures, notes
from pages.parts import charts, downloads, job, say, tuning_tables
from pages.parts.say import plain

RULE_HELP = (
    "raw: the whole continuation. first_line: up to the first newline. prompt_restart: up to where the model begins a field "
    "of the prompt again. response: up to the next heading of an Alpaca frame. What a model that never stops writes after its "
    "answer counts against it under raw alone."
)


def choose(runs: list[Job]) -> Job:
    """The run that is looked at: chosen from all, kept in the URL."""
    names = {r.id: r for r in runs}
    if st.session_state.get("run") not in names:
        asked = st.query_params.get("run", runs[0].id)
        if asked not in names:
            say.warning(f"The run {asked} of the link is not in this workspace. The newest is shown.", icon="link_off")
        st.session_state.run = asked if asked in names else runs[0].id
    chosen = st.selectbox("Run", list(names), key="run", format_func=lambda i: _title(names[i]))
    # Not bound: a binding leaves the default out, and the newest run is another one tomorrow.
    st.query_params["run"] = chosen
    return names[chosen]


def _title(run: Job) -> str:
    made = pd.Timestamp(run.request.get("created", 0), unit="s").strftime("%Y-%m-%d %H:%M")
    return f"{made} UTC, {run.request.get('label', '')} ({'shipped with the demo' if run.shipped else run.state})"


def is_shipped_of(runs: list[Job], study: Study) -> bool:
    """Whether the newest run is one that came with the program, on this very pair: then there is something to show at once."""
    if not runs or not runs[0].shipped:
        return False
    asked = runs[0].request["parameters"]
    return (asked["base"], asked["tuned"]) == (study.base_source, study.tuned_source)


def resume_button(run: Job) -> None:
    """Go on with an interrupted run."""
    if job.button("Go on with this run", type="primary", icon=":material/resume:"):
        resume(run)
        st.rerun()
    st.caption("Finished arms are kept; the interrupted one goes on from its last checkpoint.")


def live(run: Job) -> None:
    """Loss curves and finished arms of a run that is going on, looked at again every few seconds."""

    @st.fragment(run_every=3.0)
    def view() -> None:
        arms = _names(run)
        found = comparison.losses(list(arms), run.events())
        if len(found):
            charts.chart(partial(tuning_figures.loss_curves, found, arms), "live-losses")
        summary = _partial(run)
        if summary["arms"]:
            tuning_tables.show(
                comparison.table(summary), notes.notes(summary, run.request["parameters"].get("tuned", ""))
            )

    view()


def results(run: Job) -> None:
    """Everything a finished run gave, or what an interrupted one has so far."""
    summary = run.result if run.state == "done" else _partial(run)
    for arm in summary["arms"]:
        if arm["error"]:
            say.warning(f"{arm['name']}: {arm['error']}")
    frame = comparison.table(summary)
    if not len(frame):
        say.info("No arm was finished.", icon="hourglass_empty")
        return
    told = [*notes.notes(summary, run.request["parameters"].get("tuned", "")), *summary["notes"]]
    tuning_tables.show(frame, told, comparison.rule_of(summary))
    if "nats" in frame:
        charts.chart(partial(tuning_figures.nats_chart, frame), "nats", summary["signature"])
        points = [p for p in summary["sweep"] if p.get("likelihood")]
        if points:
            charts.chart(partial(tuning_figures.sweep_chart, points, "nats", ""), "sweep-nats", summary["signature"])
    if comparison.rules_of(frame):
        _answers(run, summary, frame)
    _as_well(run, summary)
    with st.expander("Training loss", icon=":material/show_chart:"):
        arms = _names(run)
        losses = comparison.losses(list(arms), run.events())
        charts.chart(partial(tuning_figures.loss_curves, losses, arms), "losses", summary["signature"])
    with st.expander("Settings of this run", icon=":material/tune:"):
        st.json(run.request["parameters"], expanded=1)
    _files(run, summary, frame)
    downloads.signature(summary["signature"])


def _answers(run: Job, summary: dict[str, Any], frame: pd.DataFrame) -> None:
    """How the answers scored under a rule, and the answers themselves."""
    with st.container(horizontal=True):
        rule = str(st.segmented_control("Extraction rule", comparison.rules_of(frame), default=comparison.rule_of(summary), required=True, key="tune_rule_shown",
                                    format_func=plain, help=RULE_HELP))  # fmt: skip
        leads = comparison.metric_of(summary)
        metrics = ["chrf", leads, *(["exact"] if leads == "rouge" else [])]
        metric = st.segmented_control("Metric", metrics, default="chrf", required=True, key="tune_metric" if leads == "bleu" else "tune_metric_text",
                                      format_func=lambda name: plain(TITLES[name]))  # fmt: skip
    charts.chart(partial(tuning_figures.score_chart, frame, metric, rule), "scores", summary["signature"])
    if summary["sweep"]:
        charts.chart(partial(tuning_figures.sweep_chart, summary["sweep"], metric, rule), "sweep", summary["signature"])
    _translations(run, summary, rule)


def _translations(run: Job, summary: dict[str, Any], rule: str) -> None:
    from ks_core.tuning import Plan

    plan = Plan.from_dict(run.request["parameters"])
    task = TASKS[plan.corpus.task]
    text_to_text = task.name == TEXT
    with st.expander(
        "Answers side by side" if text_to_text else "Translations side by side",
        icon=":material/translate:",
        expanded=True,
    ):
        try:
            pairs = plan.corpus.load().part(part_of(summary["signature"]))
        except KSLotteryError as error:
            say.error(f"The text of this run cannot be read any more. {error}")
            return
        answers = {arm["name"]: read_answers(run.folder, arm) for arm in summary["arms"] if arm.get("evaluation")}
        count = min(len(next(iter(answers.values()))), len(pairs))
        number = (
            int(st.number_input(f"{plain(task.pair.capitalize())} (of {count:,})", 1, count, 1, key="tune_sentence"))
            - 1
        )
        st.markdown(
            f"**{plain(task.source)}** {plain(pairs[number].source)}  \n**Reference** {plain(pairs[number].target)}"
        )
        rows = ["| Arm | Answer | |", "|---|---|---|"]
        for name, given in answers.items():
            answer = given[number]
            text = answer.answer(rule)
            words = " ".join(
                f":green-background[{plain(part)}]" if same else plain(part)
                for part, same in comparison.marked(text[:600], pairs[number].target)
            )
            rest = len(dropped(answer.answer("raw"), text))
            ended = "ended" if answer.stopped else "ran on to the limit"
            cut = f", {rest:,} characters cut" if rest > 0 else ""
            rows.append(f"| {plain(name)} | {words or '*nothing*'} | *{ended}{cut}* |")
        st.markdown("\n".join(rows))
        st.caption("Green: words that the reference has in the same order.")


def _as_well(run: Job, summary: dict[str, Any]) -> None:
    """Whether the ticket does as well as full tuning and as the most frequent rows, with the margins stated."""
    try:
        found = as_well.of_run(run.folder, run.request["parameters"], summary)
    except KSLotteryError as error:
        say.error(error)
        return
    if found:
        with st.expander("Does the ticket do as well?", icon=":material/balance:"):
            st.write(
                "That no difference was seen does not show that there is none. So each claim is tested with a margin that is stated before."
            )
            st.markdown("\n".join(f"- {plain(one.sentence)}" for one in found))
            st.caption("95% intervals over sentences; one seed is one seed.")


def _files(run: Job, summary: dict[str, Any], frame: pd.DataFrame) -> None:
    st.header("Take it away")
    downloads.table(frame, f"run-{run.id}", summary["signature"])
    with st.container(horizontal=True):
        for arm in summary["arms"]:
            folder = _adapter(run, arm)
            if arm["error"] or not folder.is_dir():
                continue
            st.download_button(
                f"{plain(arm['name'])} as a peft adapter", data=partial(_zip, folder, arm["folder"]), file_name=f"{arm['folder']}.zip",
                mime="application/zip", icon=":material/confirmation_number:", on_click="ignore", key=f"zip-{arm['folder']}",
            )  # fmt: skip
        st.download_button(
            "The whole run", data=partial(_zip, run.folder, run.id), file_name=f"{run.id}.zip", mime="application/zip",
            icon=":material/folder_zip:", on_click="ignore", key="zip-run",
            help="Plan, results, every translation, losses, adapters; not the weights of full tuning.",
        )  # fmt: skip
    folders = {
        arm["name"]: str(_adapter(run, arm)) for arm in summary["arms"] if (_adapter(run, arm) / "ticket.json").is_file()
    }  # fmt: skip
    if folders and not access.read_only():

        def open_it() -> None:
            st.session_state.tuned = folders[st.session_state.tune_open]

        with st.container(horizontal=True, vertical_alignment="bottom"):
            st.selectbox("Look at an arm's rows in this app", list(folders), key="tune_open")
            st.button("Open as the tuned checkpoint", on_click=open_it, icon=":material/open_in_new:")


def _adapter(run: Job, arm: dict[str, Any]) -> Path:
    """Where the rows of an arm lie. A run may be somebody else's, whose result names any place."""
    return run.folder / "arms" / Path(str(arm["folder"])).name / "adapter"


def _zip(folder: Path, name: str) -> bytes:
    """A folder as a zip, without checkpoints and whole models, and without what a link brings in from elsewhere."""
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w", zipfile.ZIP_DEFLATED) as archive:
        for path in door.files_below(folder):
            inner = path.relative_to(folder)
            if not {"checkpoints", "model"} & set(inner.parts) and inner.name != "trained.safetensors":
                archive.writestr(str(Path(name) / inner), door.read_bytes(path))
    return made.getvalue()


def _names(run: Job) -> dict[str, str]:
    """The arms of a run: name -> kind, in order."""
    from ks_core.tuning import Plan

    return {arm.name: arm.kind for arm in Plan.from_dict(run.request["parameters"]).arms}


def _partial(run: Job) -> dict[str, Any]:
    """The results of an unfinished run so far."""
    read = (workspace.read_json(path) for path in sorted((run.folder / "arms").glob("*/result.json")))
    found = [arm for arm in read if isinstance(arm, dict)]
    return {
        "arms": found, "significance": {}, "sweep": [], "notes": [],
        "signature": found[0]["signature"] if found else "",
    }  # fmt: skip
