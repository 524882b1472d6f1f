"""Every parser of ours on anything: it gives what it promises, or one sentence. Never another error."""

import base64
import contextlib
import itertools
import json
from pathlib import Path

import pytest
from hypothesis import given, settings, strategies as st

from helpers.samples import NAME, ROWS, adapter, folder, original, safetensors, ticket, write
from ks_core.audit.inquiry import Audit
from ks_core.checkpoints.opening import open_checkpoint
from ks_core.checkpoints.vocabulary import ADDED, FILES
from ks_core.errors import KSLotteryError, SettingsError
from ks_core.jobs.cluster import Allocation
from ks_core.jobs.handle import Job
from ks_core.jobs.resources import Resources
from ks_core.signature import Signature
from ks_core.store import access, cache, prepared, workspace
from ks_core.tickets.ticket import Ticket
from ks_core.translation import corpora
from ks_core.translation.prompts import format_prompt, template
from ks_core.tuning import estimates
from ks_core.tuning.arms import Arm, parse_arm
from ks_core.tuning.exam import Exam
from ks_core.tuning.plans import CorpusChoice, Plan
from ks_core.tuning.recipes import Recipe

some = settings(derandomize=True, max_examples=120, deadline=None, database=None)
numbers = st.integers(-(2**70), 2**70) | st.floats() | st.sampled_from([0, 1, 3, 18, 0.05, -1])
texts = st.text(max_size=20) | st.sampled_from(["base", "partial", "rows", "file:x.tsv", "{source}", "adam", "auto"])
plain = st.none() | st.booleans() | numbers | texts
anything = st.recursive(
    plain, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(texts, inner, max_size=4), max_leaves=12
)
#: JSON that a file may hold, well formed or not.
contents = st.one_of(anything.map(json.dumps).map(str.encode), st.binary(max_size=200), st.just(b"[" * 5000))
COUNT = itertools.count()


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    return tmp_path_factory.mktemp("parsers")


@pytest.fixture(scope="module")
def meta():
    return original()


def filled(names):
    """Tables that have some of these fields, with any values, and now and then a field that is none."""
    return st.dictionaries(st.sampled_from([*names, "stranger"]), anything, max_size=6)


def said(error):
    message = str(error.value if hasattr(error, "value") else error)
    assert message and message.isprintable() and len(message) <= 2001
    return message


@pytest.mark.parametrize(
    "kind", [Recipe, Arm, CorpusChoice, Plan, Audit, Resources, Allocation, Exam], ids=lambda kind: kind.__name__
)
@some
@given(data=st.data())
def test_settings_from_a_file(kind, data):
    names = list(kind.__dataclass_fields__)
    found = data.draw(filled(names) | anything)
    if kind in (Arm, Plan) and isinstance(found, dict) and data.draw(st.booleans()):
        arm = data.draw(st.fixed_dictionaries({"kind": st.sampled_from(["base", "partial"])}, optional={"k": numbers}))
        found = {**found, **({"arms": [arm]} if kind is Plan else arm)}
    try:
        made = (
            Recipe(**found) if kind is Recipe and isinstance(found, dict) else getattr(kind, "from_dict", dict)(found)
        )
    except KSLotteryError as error:
        said(error)
    except (TypeError, ValueError):
        assert kind is Recipe  # it has no from_dict: Python itself says which argument it does not know
    else:
        if kind is not Recipe:
            again = made.as_dict() if hasattr(made, "as_dict") else {n: getattr(made, n) for n in names}
            assert kind.from_dict(json.loads(json.dumps(again))) == made


words = st.sampled_from(["base", "partial", "rows", "matched", "k", "alpha", "seed", "steps", "label", "learning_rate"])


@some
@given(
    st.lists(st.one_of(words, texts, numbers.map(str), st.sampled_from([":", "=", ",", "\ud800", "\0"])), max_size=8)
)
def test_an_arm_on_the_command_line(parts):
    try:
        arm = parse_arm("".join(parts))
    except KSLotteryError as error:
        said(error)
    else:
        assert Arm.from_dict(json.loads(json.dumps(arm.as_dict()))) == arm


fields = st.sampled_from(
    ["{source}", "{source_language}", "{target_language}", "{{", "}}", "{", "}", "{source!r}", "{0}"]
)


@some
@given(st.lists(fields | st.text(max_size=8), max_size=6).map("".join), st.text(max_size=30))
def test_a_prompt(text, sentence):
    """One that is taken holds the sentence as it is, whatever is in it."""
    try:
        template(text)
    except SettingsError as error:
        said(error)
    else:
        assert sentence in format_prompt(text, sentence, "{x}", "{source}")


@some
@given(st.dictionaries(st.text("abc_", min_size=1, max_size=5), plain, min_size=1, max_size=6))
def test_a_signature_keeps_its_fields_apart(found):
    written = str(Signature(found))
    assert written.count("|") == len(found) - 1 and "\n" not in written
    assert [part.partition(":")[0] for part in written.split("|")] == list(found)


@some
@given(
    contents
    | filled(["token_ids", "tokens", "statistic", "pvalue", "rule", "alpha", "base"]).map(json.dumps).map(str.encode)
)
def test_a_ticket(place, data):
    files = ticket(str(place))
    with contextlib.suppress(KSLotteryError):
        made = Ticket.load(write(place / f"{next(COUNT)}", {**files, "ticket.json": data}))
        assert made.rows.shape == (len(made), 32)


def opened(source):
    """Open and read a checkpoint; whatever is wrong with it is said."""
    try:
        found = open_checkpoint(str(source))
        assert found.matrix.block(0, 1).shape == (1, found.shape[1])
        if found.vocabulary:
            assert all(text.isprintable() for text in found.vocabulary.readable_list())
    except KSLotteryError as error:
        said(error)


@some
@given(
    contents
    | filled(["peft_type", "token_indices", "base_model_name_or_path", "r", "lora_alpha"])
    .map(json.dumps)
    .map(str.encode)
)
def test_an_adapters_settings(place, data):
    base = write(place / "base", folder())
    files = adapter({"trainable_tokens_delta": ROWS[:2]}, str(base), token_indices=[1, 2])
    opened(
        write(
            place / f"{next(COUNT)}", {**files, "adapter_config.json": data.replace(b'"stranger"', b'"rank_pattern"')}
        )
    )
    told = json.loads(files["adapter_config.json"])
    with contextlib.suppress(ValueError, RecursionError):
        extra = json.loads(data)
        if isinstance(extra, dict):
            merged = {**told, **extra, "base_model_name_or_path": str(base)}
            opened(write(place / f"{next(COUNT)}", {**files, "adapter_config.json": json.dumps(merged).encode()}))


@some
@given(
    contents
    | st.fixed_dictionaries({"weight_map": anything | st.dictionaries(st.just(NAME), anything)})
    .map(json.dumps)
    .map(str.encode)
)
def test_an_index_of_shards(place, data):
    opened(write(place / f"{next(COUNT)}", {"a.safetensors": safetensors(), "model.safetensors.index.json": data}))


vocabularies = st.fixed_dictionaries(
    {}, optional={
        "model": filled(["type", "vocab", "merges"]), "added_tokens": anything, "added_tokens_decoder": anything, "vocab": anything,
        "config": filled(["default_vocab_size", "default_num_special_tokens"]), "special_tokens": anything,
    }
)  # fmt: skip
ranks = st.lists(st.tuples(st.binary(max_size=4), st.integers(-2, 40)), max_size=6).map(
    lambda found: b"".join(base64.b64encode(piece) + b" %d\n" % rank for piece, rank in found)
)


@some
@given(contents | vocabularies.map(json.dumps).map(str.encode) | ranks, st.sampled_from(
    [*FILES, "own.tiktoken", "added_tokens.json", "config.json", "tokenizer_config.json"]
))  # fmt: skip
def test_a_tokenizers_files(place, data, name):
    files = {"model.safetensors": safetensors(), "config.json": b"{}"}
    if name in ADDED:
        files["vocab.json"] = b'{"a": 0, "b": 1}'
    opened(write(place / f"{next(COUNT)}", {**files, name: data}))


@some
@given(contents | filled(["dim", "n_heads", "head_dim", "vocab_size"]).map(json.dumps).map(str.encode), st.sampled_from(
    ["params.json", "consolidated.01.pth", "consolidated.02.pth"]
))  # fmt: skip
def test_what_lies_beside_metas_parts(place, meta, data, name):
    opened(write(place / f"{next(COUNT)}", {**meta, name: data}))


lines = st.lists(st.text(max_size=30) | anything.map(json.dumps) | st.just("one two three\tun deux trois"), max_size=8)


@some
@given(
    st.binary(max_size=100) | lines.map(lambda found: "\n".join(found).encode(errors="replace")),
    st.sampled_from(["tsv", "jsonl", "txt", "zip"]),
)
def test_parallel_text(place, data, ending):
    path = place / f"{next(COUNT)}.{ending}"
    path.write_bytes(data)
    try:
        found = corpora.load(f"file:{path}", source_language="A", target_language="B", shortest=0, longest=99)
        assert found.train and found.held_out
    except KSLotteryError as error:
        said(error)


@some
@given(texts | st.text(max_size=30).map("flores:{}".format) | st.text(max_size=30).map("pack:{}".format))
def test_a_corpus_by_its_name(name):
    with contextlib.suppress(KSLotteryError):
        corpora.load(name, source_language="A", target_language="B")


statuses = filled(["state", "done", "total", "updated", "stage_started", "stage_done", "unit", "message", "error"])


@some
@given(contents, contents | statuses.map(json.dumps).map(str.encode), contents, contents)
def test_a_jobs_folder(place, request_file, status, result, others):
    made = place / f"{next(COUNT)}" / "20260101-000000-scan-abcdef"
    names = {"request.json": request_file, "status.json": status, "result.json": result}
    write(made, {**names, "process.json": others, "events.jsonl": others, "cancel": others, "log.txt": others})
    job = Job(made)
    assert job.state in ("queued", "running", "done", "failed", "cancelled")
    assert isinstance(job.error, str) and 0 <= job.progress.share <= 1
    assert isinstance(job.events(), list) and isinstance(job.log_tail(), str)
    job.insist()
    with contextlib.suppress(KSLotteryError):
        assert isinstance(job.result, dict)


@some
@given(contents | st.binary(max_size=300))
def test_an_entry_of_the_cache(place, data):
    kept = cache.Cache(place / "cache")
    path = kept.path("scan", {"a": 1})
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    assert kept.load("scan", {"a": 1}) is None and not path.exists()


@some
@given(contents | st.lists(filled(["name", "base", "tuned"]), max_size=3).map(json.dumps).map(str.encode))
def test_lists_of_the_workspace(place, data):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("KS_LOTTERY_HOME", str(place / "home"))
        workspace.folder("rates")
        (place / "home" / "studies.json").write_bytes(data)
        assert all(isinstance(study.name, str) for study in prepared.studies())
        plan = Plan()
        estimates._path(plan, None).write_bytes(data)
        rates = estimates.known(plan)
        assert rates is None or rates.characters > 0


@some
@given(st.text(st.characters(blacklist_categories=("Cs",), blacklist_characters="\0"), max_size=20) | numbers.map(str))
def test_settings_of_the_server(value):
    with pytest.MonkeyPatch.context() as patch:
        for name in (access.ROOTS, access.READ_ONLY, "KS_LOTTERY_CACHE_BYTES"):
            patch.setenv(name, value)
        for read in (access.roots, access.read_only, cache.Cache):
            try:
                read()
            except SettingsError as error:
                said(error)


def test_where_a_result_is_whole_it_is_read(place):
    """The counterpart of all these: what is sound is taken."""
    assert open_checkpoint(str(write(Path(place) / "sound", folder()))).vocabulary is not None
    assert len(Ticket.load(write(place / "sound ticket", ticket(str(place))))) == 2
