"""Checkpoints: choose the pair, and see what was found and what did not match."""

import streamlit as st

from ks_core.checkpoints import Checkpoint, demo
from ks_core.store import access
from ks_core.study import readable
from pages.parts import pair, say
from pages.parts.say import code, plain

st.title("Checkpoints")
st.write(
    "Name the checkpoint before and the one after fine-tuning in the sidebar. Only the embedding is read; nothing "
    "that a checkpoint brings is run."
)


def choose(base: str, tuned: str) -> None:
    """Put a pair into the sidebar."""
    st.session_state.base, st.session_state.tuned = base, tuned


with st.expander("What can be opened", icon=":material/help:", expanded=False):
    st.markdown(
        """
| What | Example |
|---|---|
| folder saved by transformers (safetensors shards or `.bin`) | `~/models/my-llama` |
| single file, or one of several parts | `model.safetensors`, `pytorch_model.bin`, `last.ckpt`, `model-00001-of-00003.gguf`, `consolidated.00.pth` |
| peft adapter or ticket folder (TrainableTokens, LoRA, DoRA, `modules_to_save`), on the base that it names or, where that is not here, on the one before it | `~/runs/my-adapter` |
| hub id, with a revision if you like | `HuggingFaceTB/SmolLM2-135M@main` |
| demo | `demo:base`, `demo:en-fr` |
| one of several embeddings of any of these, by a part of its name or all of it | `org/name::encoder` |

PyTorch files are read with `weights_only=True`. Vocabularies of different length are matched by token string.
"""
    )
runs = [name for name in demo.names() if name != demo.BASE]
with st.container(horizontal=True):
    for name in [] if access.read_only() else runs:
        st.button(
            f"Open {plain(name)}",
            icon=":material/play_circle:",
            on_click=choose,
            args=(demo.BASE, name),
            key=f"open-{name}",
        )
    if st.button("Read the files again", icon=":material/refresh:", help="After a checkpoint has changed on disk."):
        pair.open_study.clear()

study = pair.study()


def show(title: str, checkpoint: Checkpoint) -> None:
    """What was found in one checkpoint."""
    with st.container(border=True, height="stretch"):
        st.header(plain(title))
        rows, width = checkpoint.shape
        tied = {True: "yes", False: "no", None: "not known"}[checkpoint.tied]
        words = checkpoint.vocabulary
        st.table({
            "Source": code(checkpoint.source),
            "Kind": plain(checkpoint.kind),
            "Embedding": code(checkpoint.tensor),
            "Shape": f"{rows:,} tokens × {width:,} values",
            "Stored as": plain(checkpoint.stored),
            "Tied to the output layer": tied,
            "Tokenizer": f"{plain(words.style)}, {len(words):,} tokens ({code(words.source.name)})" if words else "none found",
            "Content hash": code(checkpoint.content_hash[:16]),
        }, border="horizontal")  # fmt: skip
        if checkpoint.changed_ids is not None:
            st.caption(
                f"An adapter: it lays {len(checkpoint.changed_ids):,} rows over its base; the others are the base's."
            )
        if checkpoint.tied:
            st.caption(
                "Input and output share this matrix: training a row also changes the output layer. This program "
                "unties them before it tunes."
            )


left, right = st.columns(2)
with left:
    show("Base", study.base)
with right:
    show("Tuned", study.tuned)

st.header("How they match")
found = study.pair
st.write(f"{len(found.base_ids):,} rows are compared, matched by {'id' if found.by == 'id' else 'token string'}.")
for note in found.notes:
    say.info(note)
strings = study.token_strings()
for title, checkpoint, ids in (
    ("only in the base", study.base, found.base_only),
    ("only in the tuned", study.tuned, found.tuned_only),
):
    if len(ids):
        names = checkpoint.vocabulary.readable_list() if checkpoint.vocabulary else None
        with st.expander(f"{len(ids):,} rows {plain(title)} checkpoint"):
            st.dataframe(
                {"id": ids[:5000], "token": [readable(names, int(i)) for i in ids[:5000]]},
                hide_index=True,
                alt=f"Tokens {title} checkpoint",
            )
