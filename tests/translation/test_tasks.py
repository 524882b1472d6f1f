"""Text to text: how prompts and answers are read, which prompts fit them, and their scores by hand."""

import itertools
import json

import numpy as np
import pytest

from ks_core.errors import CorpusError, SettingsError
from ks_core.likelihood.examples import IGNORED, encode
from ks_core.translation import corpora
from ks_core.translation.bootstrap import Bootstrap
from ks_core.translation.corpora import Corpus, SentencePair
from ks_core.translation.evaluation import held_out
from ks_core.translation.extraction import usual_rule
from ks_core.translation.generation import Generation
from ks_core.translation.manners import as_message
from ks_core.translation.metrics import metrics, notes
from ks_core.translation.overlap import common, exact, rouge_l, words
from ks_core.translation.prompts import TEMPLATES, check_for, texts, usual_prompt
from ks_core.translation.scores import compare, evaluate
from ks_core.translation.tasks import TASKS, TEXT, TRANSLATION


def records(folder, count=60, **more):
    """A JSONL file of prompts of two lines and their answers, every fourth of two lines."""
    lines = [
        json.dumps({"prompt": f"Is {n} a\nlarge number?", "answer": "yes\nit is" if n % 4 == 0 else f"no {n}", **more})
        for n in range(count)
    ]
    (folder / "answers.jsonl").write_text("\n".join(lines), encoding="utf-8")
    return f"file:{folder / 'answers.jsonl'}"


def test_rouge_l_by_hand():
    """Lin (2004), 3.2: of "police killed the gunman" both answers have "police the gunman", or "the gunman"."""
    reference = "Police killed the gunman."
    assert rouge_l("police kill the gunman", reference) == pytest.approx(3 / 4)
    assert rouge_l("the gunman kill police", reference) == pytest.approx(2 / 4)
    # Three of six words of the answer and of four of the reference: 2 * 1/2 * 3/4 / (1/2 + 3/4).
    assert rouge_l("police said that the old gunman", reference) == pytest.approx(0.6)
    assert rouge_l("", reference) == rouge_l("!?", "...") == 0.0
    assert words("Ça va_bien, 2×?") == ["ça", "va", "bien", "2"]


def test_the_longest_common_subsequence_is_that_of_trying_all():
    rng = np.random.default_rng(0)
    for _ in range(60):
        one, other = (list(rng.choice(list("abcd"), rng.integers(0, 9))) for _ in range(2))
        tried = max(
            size
            for size in range(len(one) + 1)
            for kept in itertools.combinations(one, size)
            if all(letter in rest for rest in [iter(other)] for letter in kept)
        )
        assert common(one, other) == tried


def test_exact_match_minds_case_and_no_white_space():
    assert exact(" yes,\n it is ", "yes, it is") == 1.0 and exact("Yes", "yes") == exact("yes.", "yes") == 0.0
    assert exact("e\u0301t\u00e9", "\u00e9t\u00e9") == 1.0, "the same letters, composed or not"


def test_scores_are_means_with_intervals_and_paired_p():
    references = ["yes", "no", "a long answer here", "no"]
    answers = [Generation("q", text, True, 2) for text in ("yes", "yes", "a long answer", "no\nand more")]
    found = evaluate(answers, references, "")
    assert all(list(scores) == ["rouge", "chrf", "exact"] for scores in found.scores.values())
    first, raw = found.scores["first_line"], found.scores["raw"]
    assert first["exact"].value == 50.0 and raw["exact"].value == 25.0
    assert first["rouge"].value == pytest.approx(100 * (1 + 0 + 6 / 7 + 1) / 4)
    assert first["exact"].low < 50 < first["exact"].high and "case:mixed" in first["exact"].signature
    assert first["rouge"].signature.startswith("rouge:L") and "ks-lottery:" in first["rouge"].signature
    assert Bootstrap(references, "").compared == ("rouge", "chrf") and Bootstrap(references, "French").compared == (
        "bleu",
        "chrf",
    )
    perfect = [Generation("q", text, True, 2) for text in references]
    against = compare({"base": answers, "tuned": perfect}, references, "", "base")
    assert set(against["raw"]["tuned"]) == {"rouge", "chrf"} and against["raw"]["tuned"]["rouge"]["difference"] > 0
    assert notes("") == [] and set(metrics("", references)) == {"rouge", "chrf", "exact"}


def test_prompts_and_answers_of_several_lines_are_kept(tmp_path):
    name = records(tmp_path)
    found = corpora.load(name, task=TEXT, source_field="prompt", target_field="answer", shortest=1, longest=50)
    assert (
        found.task is TASKS[TEXT] and (found.source_language, found.target_language) == ("", "") and not found.dropped
    )
    assert any("\n" in pair.target for pair in found.train) and all("\n" in pair.source for pair in found.train)
    assert len(found.train) + len(found.held_out) == 60
    # A translation has lines; and the same text is held out alike, whatever is asked of it.
    with pytest.raises(CorpusError, match="several lines"):
        corpora.load(name, source_field="prompt", target_field="answer", source_language="A", target_language="B")
    with pytest.raises(CorpusError, match="no languages, and French is named"):
        corpora.load(name, task=TEXT, source_field="prompt", target_field="answer", target_language="French")
    with pytest.raises(SettingsError, match=r"no task\. Expected one of: translation, text-to-text"):
        corpora.load(name, task="summary")
    with pytest.raises(CorpusError, match=r"no text in field .prompt. .fields there: 1, 2"):
        (tmp_path / "other.jsonl").write_text('{"1": "a", "2": "b"}\n')
        corpora.load(f"file:{tmp_path / 'other.jsonl'}", task=TEXT, source_field="prompt", target_field="answer")


def test_which_prompts_are_asked():
    assert usual_prompt(False, TEXT) == usual_prompt(True, TEXT) == "source" and usual_prompt(False) == "short"
    assert list(texts(task=TEXT)) == list(texts(True, TEXT)) == ["source", "question", "instruction"]
    assert not set(texts()) & {"question", "instruction"} and list(texts(True)) == ["source", "t5"]
    for name in texts(task=TEXT):
        check_for(TASKS[TEXT], name)
    for name in {*TEMPLATES} - {"source", "question", "instruction"}:
        with pytest.raises(SettingsError, match="text to text has no languages"):
            check_for(TASKS[TEXT], name)
        check_for(TASKS[TRANSLATION], name)


def test_the_signature_says_the_task():
    pairs = (SentencePair("a b", "c"), SentencePair("d e", "f"))
    asked = held_out(Corpus("t", "", "", pairs, pairs), "source", part="")
    assert asked.settings()["task"] == TEXT and "target_language" not in asked.settings()
    assert held_out(Corpus("t", "A", "B", pairs, pairs), "{source}", part="").settings()["target_language"] == "B"
    assert usual_rule([p.target for p in pairs]) == "first_line" and usual_rule(["one\ntwo", "three"]) == "raw"


def test_what_stands_between_prompt_and_answer(tiny_tokenizer):
    """A space; nothing behind a line break, as in a chat, where an answer begins a line."""

    class Told:
        """The tokenizer, and what it was asked."""

        eos_token_id = 2

        def __init__(self):
            self.texts = []

        def __call__(self, text):
            self.texts.append(text)
            return tiny_tokenizer(text)

    pairs = (SentencePair("w5", "w6"),)
    for languages, prompt, whole in (
        (("", ""), "{source}", "w5 w6"),
        (("", ""), "w9 {source}\n", "w9 w5\nw6"),
        (("A", "B"), "w9 {source}\n", "w9 w5\n w6"),
    ):
        told = Told()
        (example,) = encode(Corpus("t", *languages, pairs, pairs), told, prompt, 99)
        assert told.texts[1] == whole and example["labels"][-2:] == [6, 2] and set(example["labels"][:-2]) == {IGNORED}


def test_a_chat_template_is_a_prompt(tiny_tokenizer):
    tiny_tokenizer.chat_template = "{% for m in messages %}<{{ m.role }}>\n{{ m.content }}\n{% endfor %}{% if add_generation_prompt %}<assistant>\n{% endif %}"
    try:
        assert as_message(tiny_tokenizer, "source").prompt == "<user>\n{source}\n<assistant>\n"
    finally:
        tiny_tokenizer.chat_template = None
