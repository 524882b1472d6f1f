"""Which rule?: of the rules that choose rows, whose keep most of what a tuning learnt? D against all others, by likelihood."""

from functools import partial

import streamlit as st

from ks_core.errors import KSLotteryError
from ks_core.jobs import devices
from ks_core.ledger import BUDGETS, MARGINS, RULES, Inquiry, figures, tables, ticket_of_smallest
from ks_core.tuning import runnable, trainings
from pages.parts import charts, downloads, job, pair, provenance, rules_results, say, tuning_text
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
    "The KS test is one way to choose rows. Here the first k rows of every rule are copied from the tuned model into the base, or trained by "
    "themselves, and held-out references are scored by their likelihood: **what do the rows of each rule keep of the gain, and is KS the reason?**"
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
        margin = st.number_input(
            "Margin (nats a token)", 0.001, 10.0, MARGINS["nats"], 0.01, format="%.3f", key="rules_margin",
            help="By how much one may be worse and still count as good as another. It is chosen before one looks.",
        )  # fmt: skip
    seeds = trainings.other_seeds(study.tuned_source)
    others = st.multiselect(
        "Other seeds of this training", seeds, seeds, key="rules_others", disabled=not seeds, placeholder="none is known",
        help="Trainings of the same recipe with another seed. They are taken together, and the intervals then know of the seeds too. Each takes as "
        "long again. Another one: train the arm Embed Tuning with another seed on the page Fine-tune.",
    )  # fmt: skip
    with st.container(horizontal=True, vertical_alignment="bottom"):
        train = st.multiselect(
            "Train the rows of", list(RULES), key="rules_train", format_func=lambda name: plain(RULES[name].title), placeholder="no rule",
            help="The first rows of each are trained from the base with the same recipe, by several seeds. Each training takes minutes, even for "
            "a small model.",
        )  # fmt: skip
        k = st.number_input("Rows", 1, 100_000, 18, key="rules_k", disabled=not train)
        count = st.number_input(
            "Seeds",
            1,
            100,
            3,
            key="rules_seeds",
            disabled=not train,
            help="Three at least, or the interval says little.",
        )
        steps = st.number_input("Steps", 1, 100_000, 80, key="rules_steps", disabled=not train, help="Of eight pairs.")
    left, right = st.columns(2)
    with left:
        corpus = tuning_text.corpus()
    with right:
        prompt = tuning_text.prompt(corpus[1] if corpus else None, study.base_source)
if not corpus:
    say.info("Name the text under What is asked.")
    st.stop()
try:
    runnable.check(study.base_source)
    asked = Inquiry.of(
        study, scan, str(budget), alpha=pair.alpha(), corpus=corpus[0], prompt=prompt, share=float(share), margin=float(margin),
        others=tuple(others), train=tuple(train), **({"k": int(k), "seeds": int(count), "steps": int(steps)} if train else {}),
    )  # fmt: skip
except KSLotteryError as error:
    say.info(error)
    st.stop()
parameters = asked.as_dict()
found = job.finished("rules", parameters)
if found is None:
    st.caption(
        f"{len(RULES)} rules, scored on test pairs; what a rule learns from the model it learns on development pairs. "
        "It goes on when you leave the page."
    )
    lane = devices.select(asked.device).removeprefix("torch:")
    job.make("rules", parameters, "Comparing the rules", button="Compare the rules", device=lane)
provenance.of_job(found.shipped, "rules", parameters, "Comparing the rules", asked.device)

result = found.result
signature = result["signature"]
rules_results.numbers(result)

rules = list(dict.fromkeys(row["rule"] for row in result["rules"]))
drawn = st.multiselect(
    "Rules drawn", rules, [r for r in figures.DRAWN if r in rules], format_func=lambda r: plain(RULES[r].title), key="rules_drawn",
    help=plain("; ".join(f"{RULES[r].title}: {RULES[r].about}" for r in rules)),
)  # fmt: skip
charts.chart(partial(figures.gain_curves, result, drawn), "rules-gain", signature)

st.header("Is the difference clear?")
rules_results.differences(result)
if result["left"]:
    st.caption(
        plain("Left out: " + "; ".join(f"{RULES[name].title}, as {why}" for name, why in result["left"].items()) + ".")
    )

rules_results.as_good(result)
rules_results.trained(result, signature)

st.header("Which rows?")
if "attribution" in result:
    charts.chart(partial(figures.attribution_map, result), "rules-attribution", signature)
    st.caption(plain(result["attribution"]["sentence"]))
charts.chart(partial(figures.overlap_map, result), "rules-overlap", signature)
if "null" in result:
    st.header("Against a training on noise")
    st.write(plain(result["null"]["sentence"]))
if "smallest" in result:
    st.header("The smallest ticket")
    st.write(plain(result["smallest"]["sentence"]))
    charts.chart(partial(figures.smallest_curve, result), "rules-smallest", signature)
    if result["smallest"]["token_ids"]:
        downloads.ticket(lambda: ticket_of_smallest(asked, result), f"smallest-{scan.signature.short}")

st.header("All of it")
frame = tables.frame(result)
st.dataframe(frame, hide_index=True, alt="What each rule keeps at each size")
downloads.table(frame, "rules", signature)
downloads.signature(signature)
