"""Parallel text and a prompt in the tiny model's words, and its tokenizer."""

from ks_core.tuning.plans import CorpusChoice

PROMPT = "w3 w4\nw5 {source}\nw6"


def pairs(count=120, *, two_words=False):
    """Lines of a TSV file: three words, a tab, and one word or two. No line occurs twice."""
    second = " w{}" if two_words else ""
    return "\n".join(
        f"w{5 + i % 30} w{5 + i // 30} w{5 + i % 7}\tw{20 + i % 40}" + second.format(7 + i % 9) for i in range(count)
    )


def corpus(folder, count=120, *, two_words=False):
    """Such a file in a folder, as a run or an audit names it."""
    path = folder / "pairs.tsv"
    path.write_text(pairs(count, two_words=two_words), encoding="utf-8")
    return CorpusChoice(f"file:{path}", source_language="A", target_language="B")


def tokenizer():
    """A word-level tokenizer over 64 entries: three special ones, then w3 to w63."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    words = ["<unk>", "<s>", "</s>", *(f"w{i}" for i in range(3, 64))]
    tokenizer = Tokenizer(models.WordLevel({w: i for i, w in enumerate(words)}, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, unk_token="<unk>", bos_token="<s>", eos_token="</s>", pad_token="</s>"
    )
