"""Certificate: does the ticket model predict what the embed-tuned model predicts, where the theorem says it should?"""

import pandas as pd
import streamlit as st

from ks_core.audit import READINGS, Predictions, figures as panel_figures, outcome
from ks_core.study import readable
from ks_core.translation import part_of
from pages.parts import audited, charts, downloads, pair

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
study = pair.study()
scan = pair.scan(study)
asked, allocation = audited.choose(study)
with audited.explained():
    ticket = asked.positions(scan)
    panel = asked.panel("certificate")
if panel is None:
    audited.panels_button(asked, allocation)
    st.stop()

found = Predictions.of(panel)
reading = st.segmented_control(
    "Which rows are left out", list(READINGS), default="vocabulary", required=True, key="certificate_reading",
    format_func=lambda name: READINGS[name],
)  # fmt: skip
said = outcome(found, str(reading))
low, high = said.interval()
columns = st.columns(4)
columns[0].metric("Tokens predicted", f"{said.tokens:,}", help=f"Along {found.sentences:,} held-out references.")
columns[1].metric("Certified", f"{said.coverage:.1%}", help="The share for which the condition holds.")
columns[2].metric(
    "Agreement, certified", f"{said.agreeing_certified / said.certified:.1%}" if said.certified else "–",
    help=f"95% Clopper-Pearson interval: {low:.1%} to {high:.1%}.",
)  # fmt: skip
columns[3].metric("Agreement, all", f"{said.agreeing / said.tokens:.1%}", help="Certified or not.")
st.write(said.sentence)
charts.chart(panel_figures.agreement_curve(panel), "agreement", str(asked.signature))

strings = study.token_strings()
pairs = asked.corpus.load().part(part_of(panel["signature"]))
frame = pd.DataFrame({
    "sentence": [pairs[n].source for n in found.sentence], "place": found.place,
    "reference": [readable(strings, i) for i in found.reference], "embed-tuned": [readable(strings, i) for i in found.tuned],
    "ticket": [readable(strings, i) for i in found.ticket], "p_A": found.p_first, "p_B": found.p_second,
    "D left out, context": found.context,
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
