"""Which rule?: of the rules that choose rows, whose keep most of what a tuning learnt? D against all others, by likelihood."""

import pandas as pd
import streamlit as st

from ks_core.errors import KSLotteryError
from ks_core.jobs import devices
from ks_core.ledger import BUDGETS, RULES, Inquiry, figures, tables, ticket_of_smallest
from ks_core.tuning import runnable
from pages.parts import charts, downloads, job, pair, say, tuning_form
from pages.parts.say import plain

KEEP = {
    0.0: "do not look for it",
    0.5: "50% of the gain",
    0.8: "80% of the gain",
    0.9: "90% of the gain",
    0.95: "95% of the gain",
}
st.title("Which rule?")
st.write(
    "The KS test is one way to choose rows. Here the first k rows of every rule are copied from the tuned model into the base, without training, "
    "and held-out references are scored by their likelihood: **what do the rows of each rule keep of the gain, and is KS the reason?**"
)
study = pair.study()
scan = pair.scan(study)
with st.expander("What is asked", icon=":material/tune:"):
    with st.container(horizontal=True, vertical_alignment="bottom"):
        budget = st.selectbox(
            "Budget", list(BUDGETS), key="rules_budget", bind="query-params",
            format_func=lambda b: f"{b}: {BUDGETS[b].get('sentences', 'all')} test pairs",
            help="The ticket's own size is always one of them. Small takes minutes for a small model, whole an hour or more.",
        )  # fmt: skip
        share = st.selectbox(
            "The smallest ticket that keeps", list(KEEP), format_func=lambda s: KEEP[s], key="rules_share",
            help="The fewest rows, put in one by one from the ranking by attribution and taken out again where they are not missed: on development "
            "pairs, and then scored on test pairs.",
        )  # fmt: skip
    left, right = st.columns(2)
    with left:
        corpus = tuning_form.corpus()
    with right:
        prompt = tuning_form.prompt(corpus[1] if corpus else None, study.base_source)
if not corpus:
    say.info("Name the parallel text under What is asked.")
    st.stop()
try:
    runnable.check(study.base_source)
    asked = Inquiry.of(
        study, scan, str(budget), alpha=pair.alpha(), corpus=corpus[0], prompt=prompt, share=float(share)
    )
except KSLotteryError as error:
    say.info(error)
    st.stop()
parameters = asked.as_dict()
found = job.latest("rules", parameters)
if found is None or found.state != "done":
    st.caption(
        f"{len(RULES)} rules, scored on test pairs; what a rule learns from the model it learns on development pairs. "
        "It goes on when you leave the page."
    )
    lane = devices.select(asked.device).removeprefix("torch:")
    job.make("rules", parameters, "Comparing the rules", button="Compare the rules", device=lane)

result = found.result
signature = result["signature"]
whole, base, tuned = result["whole"], result["base"], result["tuned"]
st.subheader(plain(result["sentence"]))
columns = st.columns(4)
columns[0].metric(
    "Base", f"{base['nats_all']:.3f}", help="Nats for each target token with no row copied. Less is better."
)
columns[1].metric(
    "All changed rows", f"{tuned['nats_all']:.3f}", help=f"With all {result['changed']:,} changed rows copied."
)
gain = result["gain"]
columns[2].metric("Gain", f"{gain['value']:.3f}", help="By so many nats a target token they are better than the base.")
columns[3].metric("Test references", f"{result['sentences']:,}", help="The intervals are over these, in pairs.")
said = f"The gain is {gain['value']:.3f} [{gain['low']:.3f}, {gain['high']:.3f}] nats a target token."
if "end" in whole:
    said += f" {tables.share(whole['end'])}% of it is the end token's, which is learning to stop; the rest is content."
st.caption(plain(said))
for note in result["notes"]:
    st.caption(f":material/info: {plain(note)}")

rules = list(dict.fromkeys(row["rule"] for row in result["rules"]))
drawn = st.multiselect(
    "Rules drawn", rules, [r for r in figures.DRAWN if r in rules], format_func=lambda r: plain(RULES[r].title), key="rules_drawn",
    help=plain("; ".join(f"{RULES[r].title}: {RULES[r].about}" for r in rules)),
)  # fmt: skip
charts.chart(figures.gain_curves(result, drawn), "rules-gain", signature)

st.header("Is the difference clear?")
differences = [d for d in result["differences"] if d["holm"] < 0.05]
st.write(
    f"Of {len(result['differences'])} differences between D and another rule, {len(differences)} are clear (paired bootstrap over the "
    "sentences, p corrected by Holm below 0.05). Below 0 the other rule keeps more."
)
if result["differences"]:
    st.dataframe(
        pd.DataFrame([
            {"Rows": d["k"], "Rule": RULES[d["second"]].title, "D keeps more by": 100 * d["value"], "from": 100 * d["low"],
             "to": 100 * d["high"], "p (Holm)": d["holm"]} for d in sorted(result["differences"], key=lambda d: (d["holm"], d["value"]))
        ]),
        hide_index=True, alt="D against each rule, at each size",
        column_config={name: st.column_config.NumberColumn(format="%.1f", help="Points of the whole gain") for name in ("D keeps more by", "from", "to")}
        | {"p (Holm)": st.column_config.NumberColumn(format="%.3f")},
    )  # fmt: skip
if result["left"]:
    st.caption(
        plain("Left out: " + "; ".join(f"{RULES[name].title}, as {why}" for name, why in result["left"].items()) + ".")
    )

if "attribution" in result:
    charts.chart(figures.attribution_map(result), "rules-attribution", signature)
    st.caption(plain(result["attribution"]["sentence"]))
charts.chart(figures.overlap_map(result), "rules-overlap", signature)
if "null" in result:
    st.header("Against a training on noise")
    st.write(plain(result["null"]["sentence"]))
if "smallest" in result:
    st.header("The smallest ticket")
    st.write(plain(result["smallest"]["sentence"]))
    charts.chart(figures.smallest_curve(result), "rules-smallest", signature)
    if result["smallest"]["token_ids"]:
        downloads.ticket(lambda: ticket_of_smallest(asked, result), f"smallest-{scan.signature.short}")

st.header("All of it")
frame = tables.frame(result)
st.dataframe(frame, hide_index=True, alt="What each rule keeps at each size")
downloads.table(frame, "rules", signature)
downloads.signature(signature)
