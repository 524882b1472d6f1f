"""Ask: one prompt, answered at once by the base, by the base with the ticket's rows, and by the tuned model."""

import streamlit as st

from ks_core.asking import answers, content_of
from ks_core.errors import KSLotteryError
from ks_core.store import access
from pages.parts import asking, asking_answers, asking_form, pair, say

st.title("Ask")
st.write(
    "One prompt, three answers: the base, the base with the ticket's rows put into it, and the tuned model. **What does each write, "
    "where do their probabilities part, and which rows make the difference?** Each time the likeliest token is written. One answer is an example and no "
    "evidence: Audit asks many."
)
study = pair.study()
scan = pair.scan(study)
shown = asking.example(study)
if access.read_only():
    say.info(access.NOTHING_STARTS, icon="lock")
else:
    asking_form.remember()
    try:
        question = asking_form.form(study, scan, pair.alpha())
        if question:
            asking.ask(question, study, scan)
    except KSLotteryError as error:
        say.error(error)
key = st.session_state.get(asking.KEY, "")
asked = shown if access.read_only() else asking.look(key)
if asked is None:
    st.stop()
if source := asking.shipped(asked):
    asking.provenance(source)
else:
    st.query_params[asking.LINK] = key
    if asked.question.content != content_of(study):
        st.caption("The answers below are another pair's, or were written before a checkpoint changed.")
asking_answers.follow(asked)
if asked.error:
    say.error(asked.error)
if asked.read:
    asking_answers.rows(asked, study)
if asked.along:
    asking_answers.parting(asked, study, scan)
elif asked.state == answers.STOPPED:
    st.caption("This was stopped before it was finished. Ask again to see all of it.")
