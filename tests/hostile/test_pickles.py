"""A pickle that writes a file when it is loaded, put wherever this program reads a file: it is never written.

And pickles that take all memory where they are loaded: they are refused for what they ask.
"""

import contextlib
import io
import json
import os
import pickle
import shutil
from pathlib import Path

import pytest
import torch
from streamlit.testing.v1 import AppTest

from helpers import tiny_text
from helpers.bad_inputs import Caller
from helpers.bombs import calls, number, old, pickled, zipped
from helpers.places import APP
from helpers.samples import NAME, ROWS, every_source, folder, safetensors, write
from ks_core.checkpoints.opening import open_checkpoint
from ks_core.commands import doctor
from ks_core.errors import CheckpointError, KSLotteryError
from ks_core.jobs import queue
from ks_core.likelihood.examples import encode
from ks_core.likelihood.rows import lay_over
from ks_core.study.scan import Study
from ks_core.translation.corpora import Corpus, SentencePair
from ks_core.tuning import trainer, trainings
from ks_core.tuning.arms import parse_arm
from ks_core.tuning.models import load_model
from ks_core.tuning.plans import CorpusChoice, Plan
from ks_core.tuning.recipes import Recipe


@pytest.fixture
def canary(tmp_path):
    """The file that must not be written."""
    path = tmp_path / "canary"
    yield path
    assert not path.exists(), "what a file brought along was run"


def forms(canary):
    """The pickle as itself, as torch saves it today, and as torch saved it before."""
    bomb = {NAME: Caller(open, str(canary), "w")}
    made = {"bare": pickle.dumps(bomb)}
    for name, new in (("torch", True), ("old torch", False)):
        file = io.BytesIO()
        torch.save(bomb, file, _use_new_zipfile_serialization=new)
        made[name] = file.getvalue()
    return made


def test_the_pickle_does_write_where_it_is_loaded(tmp_path):
    """Otherwise the other tests here would show nothing."""
    for name, data in forms(tmp_path / "written").items():
        with contextlib.suppress(Exception):
            torch.load(io.BytesIO(data), weights_only=False) if name != "bare" else pickle.loads(data)
        assert (tmp_path / "written").exists(), name
        (tmp_path / "written").unlink()


def looked_at(source):
    """Everything that opens a checkpoint's files: its matrix, its vocabulary, the whole model."""
    for look in (
        lambda: open_checkpoint(source).matrix.block(0, 1),
        lambda: Study(source, source).token_strings(),
        lambda: load_model(source),
    ):
        with contextlib.suppress(KSLotteryError):
            look()


@pytest.mark.parametrize("kind", every_source("x"))
def test_in_the_place_of_every_file_of_a_checkpoint(tmp_path, canary, kind):
    write(tmp_path / "base", folder())
    files = every_source(str(tmp_path / "base"))[kind]
    for name in files:
        for form, data in forms(canary).items():
            place = tmp_path / f"{name} {form}"
            looked_at(str(write(place, {**files, name: data})))
            assert not canary.exists(), (name, form)


BESIDE = [
    "pytorch_model.bin", "adapter_model.bin", "training_args.bin", "optimizer.pt", "scheduler.pt", "rng_state.pth",
    "consolidated.00.pth", "tokenizer_config.json", "special_tokens_map.json", "tokenizer.model", "vocab.json",
    "vocab.txt", "merges.txt", "added_tokens.json", "generation_config.json", "config.json", "ticket.json",
    "preprocessor_config.json", "chat_template.jinja", "spiece.model", "vocab.pkl", "model.pkl", "tokenizer.pkl",
]  # fmt: skip


def test_beside_a_whole_model(tiny_folder, canary):
    """Files that a library might look for in a model's folder."""
    for name in BESIDE:
        for form, data in forms(canary).items():
            place = shutil.copytree(tiny_folder, tiny_folder.parent / f"{name} {form}")
            (place / name).write_bytes(data)
            looked_at(str(place))
            assert not canary.exists(), (name, form)


def test_in_the_second_shard_of_a_whole_model(tiny_folder, tiny_model, canary):
    """The embedding is read from the first, so only loading the model meets it."""
    state = dict(tiny_model.state_dict())
    first = "model.embed_tokens.weight"
    torch.save({first: state.pop(first)}, tiny_folder / "a.bin")
    (tiny_folder / "model.safetensors").unlink()
    index = {"metadata": {}, "weight_map": {first: "a.bin", **dict.fromkeys(state, "b.bin")}}
    (tiny_folder / "pytorch_model.bin.index.json").write_text(json.dumps(index))
    for data in forms(canary).values():
        (tiny_folder / "b.bin").write_bytes(data)
        assert open_checkpoint(str(tiny_folder)).shape == (64, 16)
        with pytest.raises(KSLotteryError):
            load_model(str(tiny_folder))


def test_code_that_a_model_names_is_not_run(tiny_folder, canary):
    code = f"open({str(canary)!r}, 'w')\nclass Model: pass\nclass Config: pass\nclass Tokenizer: pass\n"
    for name in ("own.py", "modeling_own.py", "configuration_own.py", "tokenization_own.py", "generate.py"):
        (tiny_folder / name).write_text(code)
    (tiny_folder / "custom_generate").mkdir()
    (tiny_folder / "custom_generate" / "generate.py").write_text(code)
    known = json.loads((tiny_folder / "config.json").read_text())
    for kind in ("llama", "own"):
        named = {"AutoConfig": "own.Config", "AutoModelForCausalLM": "own.Model"}
        (tiny_folder / "config.json").write_text(json.dumps({**known, "model_type": kind, "auto_map": named}))
        (tiny_folder / "tokenizer_config.json").write_text(
            json.dumps({"tokenizer_class": "Tokenizer", "auto_map": {"AutoTokenizer": ["own.Tokenizer", None]}})
        )
        looked_at(str(tiny_folder))
        assert not canary.exists(), kind


def test_in_the_place_of_every_file_of_the_workspace(workspace_folder, tiny_folder, tmp_path, canary):
    """Results, runs and lists: replaced by pickles, then looked at by everything that reads them."""
    text = tmp_path / "pairs.tsv"
    text.write_text(tiny_text.pairs())
    tuned = shutil.copytree(tiny_folder, tmp_path / "tuned")
    rows = ROWS[:1, :16].repeat(64, 0)
    (tuned / "model.safetensors").write_bytes(safetensors({NAME: rows}))
    Study(str(tiny_folder), str(tuned)).scan()
    plan = Plan(
        base=str(tiny_folder), tuned="", arms=tuple(map(parse_arm, ("base", "frequent:k=4:steps=2:batch_size=2"))),
        corpus=CorpusChoice(f"file:{text}", source_language="A", target_language="B"), prompt="w3 {source} w4",
        sentences=2, max_new_tokens=2, device="cpu",
    )  # fmt: skip
    done = queue.submit("tune", plan.as_dict())
    assert done.wait(120) == "done", done.log_tail()
    (workspace_folder / "studies.json").write_text("[]")
    files = [p for p in workspace_folder.rglob("*") if p.is_file() and p.parent.name != "logs"]
    names = {p.name for p in files}
    assert {"studies.json", "request.json", "status.json", "result.json", "plan.json", "trained.safetensors"} <= names
    whole = {p: p.read_bytes() for p in files}
    for form, data in forms(canary).items():
        for path in files:
            path.write_bytes(data)
        page = AppTest.from_file(APP, default_timeout=60)
        page.query_params["base"], page.query_params["tuned"] = str(tiny_folder), str(tuned)
        page.run()
        for name in ("fine_tune", "audit", "certificate", "compare", "layers", "drift_map"):
            page = page.switch_page(f"pages/{name}.py").run()
            assert not page.exception, (form, name)
        list(doctor.examine())
        for job in queue.all_jobs():
            _ = job.state, job.error, job.progress, job.events()
        for job in [j for j in queue.all_jobs() if j.state == "running"]:
            job.cancel()
            job.wait(60)
        assert not canary.exists(), form
    for path, data in whole.items():  # the request alone is sound: what the run kept is met by its resuming
        path.write_bytes(data)
    for path in [p for p in files if "arms" in p.parts or p.name in ("status.json", "result.json")]:
        path.write_bytes(forms(canary)["torch"])
    assert done.wait(60) == "failed"  # as soon as its process, which is done, has left too
    assert queue.resume(done).wait(120) in ("done", "failed"), done.log_tail()
    assert not canary.exists()


@pytest.mark.whole
def test_in_the_place_of_every_file_of_an_interrupted_training(tiny_model, tiny_tokenizer, tmp_path, canary):
    """A checkpoint of the Trainer's, each of its files in turn: it begins anew, or says what is wrong."""
    import copy

    pairs = tuple(SentencePair(f"w{i} w{i + 1}", f"w{i + 20}") for i in range(5, 25))
    examples = encode(Corpus("test", "A", "B", pairs, pairs[:1]), tiny_tokenizer, "w3 {source} w4", 128)

    def training(place, stop=99):
        model, steps = copy.deepcopy(tiny_model), []
        lay_over(model, list(range(3, 40)))
        recipe = Recipe(steps=8, batch_size=2)
        trainer.train(
            model, tiny_tokenizer, examples, recipe, place, progress=lambda step, *_: steps.append(step),
            should_stop=lambda: len(steps) >= stop,
        )  # fmt: skip
        return steps

    training(tmp_path / "cut", stop=5)
    kept = sorted(p.relative_to(tmp_path / "cut") for p in (tmp_path / "cut").rglob("*") if p.is_file())
    assert {"trained.safetensors", "optimizer.pt", "scheduler.pt", "rng_state.pth", "trainer_state.json"} <= {
        p.name for p in kept
    }
    for file in kept:
        for form, data in {**forms(canary), "nothing": b"", "half": None}.items():
            place = shutil.copytree(tmp_path / "cut", tmp_path / f"{file.name} {form}")
            whole = (place / file).read_bytes()
            (place / file).write_bytes(whole[: len(whole) // 2] if data is None else data)
            if form == "torch" and file.suffix in (".pt", ".pth"):  # an intact archive: torch itself refuses it
                with pytest.raises(KSLotteryError, match="could run code"):
                    training(place)
            else:
                met = training(place)
                assert met[-1] == 8 and met[0] in (1, 6), (file, form)
            assert not canary.exists(), (file, form)


def test_in_the_demo_and_its_list(workspace_folder, demo_models, canary):
    """The prepared model lies in the workspace: whoever can write there must not be able to bring code."""
    models = shutil.copytree(demo_models, workspace_folder / "models", copy_function=os.link)
    for path in [p for p in Path(models).rglob("*") if p.is_file()]:
        path.unlink()
        path.write_bytes(forms(canary)["torch"])
    with contextlib.suppress(KSLotteryError):
        Study("demo:base", "demo:en-fr").scan()
    with contextlib.suppress(KSLotteryError):
        trainings.counts("demo:en-fr")
    list(doctor.examine())


def stored(count, dtype="FloatStorage", key="0"):
    """Instructions for a storage of so many values."""
    text = f"(X\x07\0\0\0storagectorch\n{dtype}\n".encode() + b"X\x01\0\0\0" + key.encode() + b"X\x03\0\0\0cpu"
    return text + number(count) + b"tQ"


def rebuilt(how, storage, shape, strides, more=b""):
    """Instructions for a tensor over a storage."""
    sizes = b"".join(b"(" + b"".join(map(number, each)) + b"t" for each in (shape, strides))
    return f"ctorch._utils\n{how}\n(".encode() + storage + b"K\0" + sizes + more + b"tR"


SOUND = b"\x89ccollections\nOrderedDict\n)R"
LIST = b"](" + b"K\1" * 300_000 + b"eq\1"
#: What a pickle may ask for beside weights, as the embedding's value, and words of what is said.
ASKED = {
    "room for bytes": (calls("__builtin__", "bytearray", number(1 << 40)), "makes room"),
    "room for bytes, under its new name": (calls("builtins", "bytearray", number(1 << 40)), "makes room"),
    "room for values": (calls("torch", "FloatStorage", number(1 << 40)), "calls torch.FloatStorage"),
    "room for a tensor": (calls("torch", "FloatTensor", number(1 << 40)), "calls torch.FloatTensor"),
    "room for nothing in particular": (calls("torch", "empty", number(1 << 40)), "calls torch.empty"),
    "a command": (calls("posix", "system", b"X\x02\0\0\0id"), "names posix.system"),
    "an object": (b"cbuiltins\nset\n)\x81", "the instruction NEWOBJ"),
    "what a name of its own stands for": (b"X\2\0\0\0osX\6\0\0\0system\x93", "the instruction STACK_GLOBAL"),
    "to set a tensor's insides": (rebuilt("_rebuild_tensor_v2", stored(4), (4,), (1,), SOUND) + b"(K\1K\2tb", "sets the insides"),
    "something that is stored, and no values": (b"(X\x06\0\0\0moduleK\1K\1K\1K\1tQ", "no storage"),
    "a tensor past its storage": (rebuilt("_rebuild_tensor_v2", stored(4), (1 << 20, 1 << 10), (1 << 10, 1), SOUND), "needs 1,073,741,824 values"),
    "a tensor that strides past it": (rebuilt("_rebuild_tensor_v2", stored(4), (2,), (1 << 40,), SOUND), "needs 1,099,511,627,777 values"),
    "a parameter past it": (calls("torch._utils", "_rebuild_parameter", rebuilt("_rebuild_tensor", stored(4), (1 << 40,), (1,))), "needs"),
    "quantized values past it": (rebuilt("_rebuild_qtensor", stored(4), (1 << 40,), (0,), b"N" + SOUND), "larger than its storage"),
    "values for another device": (b"ctorch._utils\n_rebuild_device_tensor_from_cpu_tensor\n(NNNNtR", "names torch._utils._rebuild_device"),
    "a list copied again and again": (LIST + b"(" + 200 * (b"cbuiltins\nset\nh\1\x85R") + b"e", "copies more than it holds"),
    "text in a coding of its own": (b"c_codecs\nencode\n(X\1\0\0\0aX\x06\0\0\0base64tR", "a coding of its own"),
    "a storage that the file lacks": (rebuilt("_rebuild_tensor_v2", stored(1 << 40), (4,), (1,), SOUND), "lacks values"),
}  # fmt: skip


@pytest.mark.parametrize("asked", ASKED)
def test_what_is_no_weight_is_refused_for_what_it_asks(tmp_path, asked):
    """In either format. Nothing of torch is loaded that could do it."""
    instructions, says = ASKED[asked]
    for form in (zipped, old):
        (tmp_path / "m.bin").write_bytes(form(pickled(instructions)))
        with pytest.raises(CheckpointError) as told:
            open_checkpoint(str(tmp_path / "m.bin"))
        assert says in str(told.value) or (form is old and "no PyTorch file" in str(told.value)), str(told.value)


def test_a_model_is_looked_through_before_torch_loads_it(tiny_folder, tiny_model):
    """Whole models are loaded by transformers, shard by shard: what asks for room is found before."""
    state = dict(tiny_model.state_dict())
    first = "model.embed_tokens.weight"
    torch.save({first: state.pop(first)}, tiny_folder / "a.bin")
    (tiny_folder / "model.safetensors").unlink()
    index = {"metadata": {}, "weight_map": {first: "a.bin", **dict.fromkeys(state, "b.bin")}}
    (tiny_folder / "pytorch_model.bin.index.json").write_text(json.dumps(index))
    (tiny_folder / "b.bin").write_bytes(zipped(pickled(calls("__builtin__", "bytearray", number(1 << 40)))))
    with pytest.raises(CheckpointError, match="makes room"):
        load_model(str(tiny_folder))
    torch.save(state, tiny_folder / "b.bin")
    assert load_model(str(tiny_folder))[0].get_input_embeddings().weight.shape == (64, 16)
