"""The questions at the end of the page Learn, with their answers."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Question:
    """A question with its options; ``right`` is the place of the answer among them, ``why`` is said after a choice."""

    text: str
    options: tuple[str, ...]
    right: int
    why: str
    sources: tuple[str, ...]


QUESTIONS = (
    Question("Training permutes the values of a row: each one is still there, at another place. What is D?",
             ("0", "1", "It depends on the permutation"), 0,
             "The test sees the set of values alone. The two CDFs are the same, so D is 0, although the model may be ruined.", ("here",)),
    Question("Two models were trained alike. One has rows of 64 values, the other of 4,096. In which does a small shift win sooner?",
             ("64", "4,096", "Both alike"), 1,
             "Critical D falls with the square root of d: the exact test asks for 0.25 at d = 64 and for 0.030 at d = 4,096, for alpha 0.05.", ("exact",)),
    Question("Every row is moved by tiny random noise. What share of them has p < 0.05?",
             ("About 5%", "Nearly none", "Nearly all"), 1,
             "A moved row is not another draw: its values stay nearly in order, so D is tiny and p piles up at 1. Alpha is no rate of "
             "false alarms here.", ("here", "replication")),
    Question("A ticket of 18 rows takes the score of the raw answers from 6 to 36. What should be asked first?",
             ("Whether more rows give more", "What the score is when every answer is cut at its first line", "Whether p is small enough"), 1,
             "One replication (not reviewed; LLaMA-7B, English to Catalan, one prompt) found the base at 34.0 under that rule and the "
             "ticket at 35.7: 94% of that gain was the model learning to stop. Under another prompt the base fails at its first line too, "
             "so the share is of that run and not of the method.",
             ("replication",)),
    Question("Partial Transfer of a ticket needs …", ("training on the same text", "the tuned model's rows", "a larger alpha"), 1,
             "It copies rows out of a model that was embed-tuned. Partial Tuning is the one that trains.", ("paper",)),
    Question("One random row of the prompt, tuned alone, does as well as the ticket. What follows?",
             ("The ticket is real and small", "Which rows were chosen hardly mattered", "The test was wrong"), 1,
             "The test may well have found the rows that moved most. But where others do as well, the ticket is not what makes the "
             "difference; the audit compares it with such controls. In the replication random rows matched on count came to 0.40 to "
             "0.59 of the gain, and one row alone to nearly all of it.", ("replication",)),
)  # fmt: skip
