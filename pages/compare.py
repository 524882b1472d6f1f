"""Compare: several tuned checkpoints of one base in the same views."""

import json
from functools import partial

import streamlit as st

from ks_core.checkpoints import demo
from ks_core.errors import KSLotteryError
from ks_core.jobs import submit
from ks_core.store import access, shipped
from ks_core.study import Study, named as named_pairs, readable
from ks_core.tickets import Several, figures as audit_figures, line_up, several_figures
from ks_core.tuning import trainings
from pages.parts import charts, downloads, job, pair, provenance, say, ticket_rule
from pages.parts.say import plain


@st.cache_resource(max_entries=8, show_spinner=False)
def lined_up(
    content: str, groups: tuple[str, ...], rule: str, alpha: float, k: int, _studies: dict[str, Study]
) -> Several:
    """The studies side by side, held for all sessions; ``content`` tells them from others of the same names."""
    return line_up(_studies, groups, rule=rule, alpha=alpha, k=k)


st.title("Compare")
st.write(
    "Do trainings with another seed, prompt or language move the same tokens? Two or more tuned checkpoints of one base, in the "
    "same views. What a new seed already changes says nothing about languages."
)
study = pair.study()
alpha = pair.alpha()
own = trainings.of(study.tuned_source)
known = [own.source, *(t.source for t in trainings.others(own))] if own else [study.tuned_source]
known += [s.tuned for s in named_pairs.studies() if s.base == study.base_source and s.tuned not in known]
default = known[:4] if study.base_source == demo.BASE else known[:1] + known[1:4]
chosen = st.multiselect(
    "Tuned checkpoints", known, default, key="compared", bind="query-params", accept_new_options=not access.read_only(),
    format_func=lambda source: named.name if (named := trainings.of(source)) else str(source),
    help="Choose known ones, or type a folder, a file, a hub id or an adapter and press Enter.",
)  # fmt: skip
with st.container(horizontal=True, vertical_alignment="bottom"):
    rule, k = ticket_rule.choose("Rule", "compare_")
if len(chosen) < 2:
    say.info(
        "Choose at least two tuned checkpoints. Runs of the page Fine-tune on this base are offered when they have the same arm; "
        "any other is named by its path.",
        icon="compare_arrows",
    )
    st.stop()

try:
    studies: dict[str, Study] = {}
    groups = []
    for source in chosen:
        one = pair.open_study(study.base_source, source)
        training = trainings.of(source)
        name = training.name if training else one.tuned.label
        studies[name if name not in studies else f"{name} ({len(studies) + 1})"] = one
        groups.append(str(training.facets["language"]) if training else name)
    scans = {name: pair.scan(one) for name, one in studies.items()}
    for name, one in studies.items():
        ticket_rule.rows(one, scans[name], rule, alpha, k)
    content = json.dumps({name: one.key for name, one in studies.items()})
    found = lined_up(content, tuple(groups), rule, alpha, k, studies)
except KSLotteryError as error:
    say.error(error)
    st.stop()


signature = str(found.signature)
if said := shipped.sentence({f"the test of {name}": scan.shipped for name, scan in scans.items()}):
    asked = [pair.scan_parameters(one) for name, one in studies.items() if scans[name].shipped]
    provenance.mark(
        said, lambda: [submit("scan", one, label="Testing every row") for one in asked], job.latest("scan", asked[-1]), "scan"
    )  # fmt: skip
st.write(f"**{plain(found.sentence)}**")
strings = study.token_strings()
left, right = st.columns(2)
with left:
    by = "runs"
    if len(set(found.groups)) < len(found.groups):
        by = st.segmented_control("Sets", ["runs", "languages"], default="runs", required=True, key="compare_sets",
                                  help="A language has the rows that are in any of its tickets.")  # fmt: skip
    parts = found.intersections(by_group=by == "languages")
    charts.chart(
        partial(several_figures.upset, parts, found.grouped()[0] if by == "languages" else found.names),
        "compare-upset",
        signature,
    )
with right:
    charts.chart(partial(several_figures.pvalue_outlines, found, alpha), "compare-p", signature)
first = st.selectbox("Follow the top of", list(found.names), key="compare_first")
tokens = [readable(strings, int(i)) for i in found.token_ids]
charts.chart(partial(several_figures.rank_changes, found, tokens, found.names.index(first)), "compare-ranks", signature)
st.caption("Orange: in every ticket. A token that the other trainings hardly met falls far down.")
measure = st.segmented_control("Overlap, two by two", list(audit_figures.MEASURES), default="shared", required=True,
                               key="compare_measure", format_func=audit_figures.MEASURES.__getitem__)  # fmt: skip
charts.chart(partial(audit_figures.overlap_heatmap, found.overlap, str(measure)), "compare-overlap", signature)

st.header("Tokens in any ticket")
frame = found.table(strings)
st.dataframe(frame, hide_index=True, height=380, alt="Tokens, in how many tickets, with D and rank in each",
             column_config={"token_id": st.column_config.NumberColumn("Id", format="%d"),
                            "token": "Token", "tickets": "Tickets",
                            **{c: st.column_config.NumberColumn(format="%.4f") for c in frame if c.startswith("D ")}})  # fmt: skip
downloads.table(frame, f"compare-{found.signature.short}", signature)
downloads.signature(signature)
