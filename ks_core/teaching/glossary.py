"""The terms of this field as the app uses them, each with its meaning in a sentence or two and its source."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Term:
    """A term, what it means, where that comes from (names of ``sources.SOURCES``), and the page that shows it."""

    name: str
    meaning: str
    sources: tuple[str, ...]
    page: str = ""


GLOSSARY = (
    Term("Row", "One token's vector in the embedding matrix: d values. The test compares the values of a row before and after "
         "fine-tuning, and not where in the row they stand.", ("paper",), "ks_test"),
    Term("Base, tuned", "The checkpoint before and after fine-tuning. They are compared token by token.", ("paper",), "checkpoints"),
    Term("d", "The number of values in a row, the width of the embedding. It is the size of both samples of the test, so it decides "
         "how small a shift can be seen.", ("here",), "learn"),
    Term("Empirical CDF", "For every value x, the share of a sample that is at or below x: a staircase from 0 to 1.", ("smirnov",), "ks_test"),
    Term("KS statistic D", "The largest vertical gap between two empirical CDFs. With two samples of size d it is a multiple of 1/d.",
         ("smirnov",), "ks_test"),
    Term("p-value", "How often two independent samples of size d from one distribution would show a gap of at least D. Here the two samples "
         "are not independent, so it ranks shifts and is no error rate.", ("exact", "replication"), "ks_test"),
    Term("Exact p-value", "Counted over all orders of the pooled values. It depends on d and D alone, so one table serves a vocabulary.",
         ("exact",), "learn"),
    Term("alpha", "The bound on p below which a row wins. Because tuned rows began as base rows it sets how large a shift must be; "
         "it is not the rate of false alarms.", ("replication",), "learn"),
    Term("Critical D", "The smallest D whose p-value is below alpha, for rows of d values.", ("exact",), "ks_test"),
    Term("Winning ticket", "The set of tokens whose rows have p below alpha.", ("paper",), "winning_tokens"),
    Term("Embed Tuning", "Training the whole input embedding with all else frozen: the reference from which a ticket is read.", ("paper",), "fine_tune"),
    Term("Partial Tuning", "Training the ticket's rows alone, from the base.", ("paper",), "fine_tune"),
    Term("Partial Transfer", "Copying the ticket's rows from the tuned model into the base, without training.", ("paper",), "fine_tune"),
    Term("Control", "Rows that are not the ticket, tuned the same way: random ones, as often trained ones, the most frequent ones, the "
         "prompt's, or noise of the same size. A ticket that does no better than its controls is not special. In the replication random rows "
         "matched on count gave 0.40 to 0.59 of the gain.", ("replication",), "audit"),
    Term("Structural row", "One row of the prompt's frame, such as the line break. In the replication one such row, tuned alone, gave back "
         "nearly all of the ticket's gain.", ("replication",), "audit"),
    Term("Extraction rule", "Where an answer is taken to end before it is scored: the whole continuation (raw), its first line, or up to "
         "where the model begins the prompt anew.", ("replication",), "audit"),
    Term("Stopping", "Ending an answer by itself. In one replication (not reviewed; LLaMA-7B, English to Catalan, one prompt) 94% of a ticket's "
         "gain was the model learning that; Qwen2.5-7B, which already stops, gained nothing from tuning its whole embedding. How much of a gain "
         "it is depends on model, prompt and rule: the audit says it for the pair at hand.", ("replication",), "audit"),
    Term("Position gating", "Letting a trained change act at some positions only, such as the prompt's words or the answer, to see where it works.",
         ("replication",), "audit"),
    Term("Certificate", "The condition under which the ticket's model should predict what the embed-tuned one does: the margin between the two "
         "likeliest tokens is more than twice the KS distance of the rows left out. This tool's reading of the paper's theorem; it says "
         "nothing of translation quality.", ("paper",), "certificate"),
    Term("BLEU, chrF", "Scores of a translation against a reference, by word and by character sequences; both 0 to 100. Intervals come from "
         "paired bootstrap.", ("bleu", "chrf", "bootstrap"), "fine_tune"),
    Term("Bonferroni, Benjamini-Hochberg", "Corrections for testing many rows at once. They are not in the paper, assume p-values that mean what "
         "they say, and depend on which rows are counted as tested: rows that no training step touched could not have moved.", ("bh",), "winning_tokens"),
    Term("Selection rule", "What chooses a ticket's rows: a bound on p, the k first of an order (by D, by the length of the shift, by another statistic, by optimizer steps), "
         "or a control such as rows at random. A rule that needs a known training is refused where nobody wrote it down.", ("paper", "program"), "winning_tokens"),
    Term("L2, relative L2, cosine, mean shift", "How far a row went: the length of the shift, the same for the row's own length, how far it turned, and how far the mean of "
         "its values went. No test is in any of them.", ("program",), "winning_tokens"),
    Term("Wasserstein-1", "The mean distance between a row's values before and after when both are sorted: how far they moved, not how large one gap is.",
         ("wasserstein",), "winning_tokens"),
    Term("Cramér-von Mises, Anderson-Darling", "Two-sample statistics that sum the squared distance between the two distribution functions where D takes its largest; the "
         "second gives their ends more weight.", ("cvm", "ad"), "winning_tokens"),
    Term("Energy distance", "The root of twice the integral of the squared difference between two distribution functions: like Cramér-von Mises, and in the values' own unit.",
         ("energy",), "winning_tokens"),
    Term("Sign test, Wilcoxon's signed ranks", "Tests of pairs: they know which value became which, as a tuned row began as its base row. They see that values went in one "
         "direction, and not how the row is distributed.", ("wilcoxon",), "winning_tokens"),
    Term("Exposure", "How often, and when, training steps touched a row. Under Adam a step has about the same length whatever the gradient says, so D goes with exposure.",
         ("program", "adam"), "audit"),
    Term("Training on noise", "The same rows at the same steps with the same optimizer and rates, with random gradients: what D exposure alone gives. No model is run.",
         ("program",), "audit"),
    Term("Exposure-adjusted p-value", "The share of trainings on noise in which a row reaches its real D at the same exposure. This program's, not the paper's: it says that a "
         "row moved more in one direction than noise does, not that it carries anything.", ("program",), "winning_tokens"),
    Term("Row-wise Adam, dense Adam", "Adam that steps only the rows that were in the batch (by each row's own count of steps, adam_per_row, or by the training's, "
         "rowwise_adam), or all rows at every step. Dense Adam goes on moving "
         "rows that were seen once, so D then says little about use.", ("adam", "program"), "audit"),
    Term("Tied embeddings", "Input and output matrix are one. Training a row then also changes what the model writes; this program unties them first "
         "and says so.", ("program",), "fine_tune"),
    Term("Drift map", "Rows before and after, drawn in two dimensions by PCA or UMAP. In a UMAP the length of an arrow is not the size of the shift.",
         ("umap",), "drift_map"),
    Term("Neighbours replaced", "Of the ten nearest tokens of a token before and after, the share of all that are in one list only (Jaccard distance): 0 where "
         "the same ones stayed, 1 where none did. A row may go far and take its neighbours with it.", ("program",), "drift_map"),
    Term("LoRA", "Training a product of two narrow matrices that is added to a weight: the usual small fine-tuning, here for comparison.", ("lora",), "fine_tune"),
    Term("Prefix tuning", "Training keys and values that every layer reads before the text, as if words stood there. No weight and no row of the embedding "
         "changes, so a KS test has nothing to compare; here for comparison, as in the paper.", ("prefix", "paper"), "fine_tune"),
    Term("Signature", "The line under a result that says from which models, settings, seed and versions it came.", ("program",), "overview"),
)  # fmt: skip
