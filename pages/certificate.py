"""Certificate: does the ticket model predict what the embed-tuned model predicts, where the theorem says it should?"""

from functools import partial

import pandas as pd
import streamlit as st

from ks_core.audit import PANELS, READINGS, Predictions, figures as panel_figures, outcome
from ks_core.registry import named
from ks_core.study import readable
from ks_core.translation import part_of
from pages.parts import audited, charts, downloads, pair, provenance
from pages.parts.say import plain

st.title("Certificate")
st.write(
    "The paper's Theorem 2 says that, with confidence 1 - alpha, the model with only the ticket's rows predicts as the "
    "embed-tuned model does. Its exact statement could not be had. This page shows **this program's reading** of it, a margin "
    "condition, and beside it what was measured: how often the two models really agree."
)
st.latex(r"D_{\text{left out}} \;<\; \tfrac{1}{2}\,(p_A - p_B)")
st.caption(
    "p_A and p_B: the embed-tuned model's probabilities of its first and second next token. D left out: the KS distance of "
    "rows outside the ticket. A certificate says nothing about translation quality: two models can agree on a bad translation."
)
st.caption(
    "Under a rule that cuts at p < alpha, the largest D left out is by construction the lattice point just below the "
    "critical value (or less, where no row lies there), whichever rows the ticket has. How many tokens are certified then says how sure the embed-tuned model is, not how good the ticket "
    "is; what the ticket gives shows in the agreement, beside other rows copied at the same tokens."
)
study = pair.study()
scan = pair.scan(study)
asked, allocation = audited.choose(study)
with audited.explained():
    ticket = asked.positions(scan)
    panel = asked.panel("certificate")
if panel is None:
    audited.panels_button(asked, allocation)
    st.stop()

provenance.of_job(asked.shipped("certificate"), "audit", asked.as_dict(), "Audit", asked.device)
found = Predictions.of(panel)
left, right = st.columns(2)
reading = left.segmented_control(
    "Which rows are left out", list(READINGS), default="vocabulary", required=True, key="certificate_reading",
    format_func=lambda name: READINGS[name],
)  # fmt: skip
prefix = "reference"
if len(found.prefixes) > 1:
    prefix = str(right.segmented_control(
        "What the models have read", list(found.prefixes), default="reference", required=True, key="certificate_prefix",
        format_func=lambda name: plain(found.prefixes[name]),
    ))  # fmt: skip
whole = outcome(found, str(reading))
said = whole.own if prefix == "own" and whole.own else whole
measured = said.models[0]
columns = st.columns(4)
columns[0].metric(
    "Tokens predicted",
    f"{said.tokens:,}",
    help=f"Of {found.sentences:,} held-out sentences, given {plain(found.prefixes[said.prefix])}.",
)
columns[1].metric(
    "Certified", f"{said.coverage:.1%}", help=f"The share for which the condition holds. {plain(said.covered.bounds)}"
)
columns[2].metric(
    "Agreement, certified", f"{measured.certified.share:.1%}" if said.certified else "–", help=plain(measured.certified.bounds),
)  # fmt: skip
columns[3].metric("Agreement, all", f"{measured.all.share:.1%}", help=f"Certified or not. {plain(measured.all.bounds)}")
st.write(plain(whole.sentence))
charts.chart(partial(panel_figures.agreement_curve, panel), "agreement", str(asked.signature))
if found.others:
    st.header("The same tokens, with other rows copied")
    charts.chart(partial(panel_figures.agreement_points, panel, str(reading)), "agreement-others", str(asked.signature))
    rows, caption = named(PANELS["certificate"].table)(panel)
    st.dataframe(pd.DataFrame(rows), hide_index=True, alt="Agreement with other rows copied, along either prefix")
    st.caption(plain(caption))

strings = study.token_strings()
pairs = asked.corpus.load().part(part_of(panel["signature"]))
guesses = {"embed-tuned": found.tuned, "ticket": found.ticket} | {
    found.titles.get(n, n): g for n, g in found.others.items()
}
frame = pd.DataFrame({
    "sentence": [pairs[n].source for n in found.sentence],
    **({"given": ["own answer" if own else "reference" for own in found.own]} if len(found.prefixes) > 1 else {}),
    "place": found.place, "stands there": [readable(strings, i) for i in found.reference],
    **{name: [readable(strings, i) for i in ids] for name, ids in guesses.items()},
    "p_A": found.p_first, "p_B": found.p_second, "D left out, context": found.context,
})  # fmt: skip
st.header("Certified, and yet they disagree")
if said.violations:
    st.dataframe(frame.iloc[list(said.violations)], hide_index=True, alt="Certified cases on which the models disagree")
else:
    st.write("No case." if said.certified else "Nothing was certified.")
with st.expander(f"All {len(frame):,} predicted tokens"):
    st.dataframe(frame, hide_index=True, alt="Every predicted token")
downloads.table(frame, "certificate", str(asked.signature))
downloads.signature(str(asked.signature))
