"""The command line: what it prints, writes and says when something is wrong; as a process of its own where that makes a difference."""

import contextlib
import io
import json
import subprocess
import sys
import time
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
import torch
from safetensors.numpy import save_file

from ks_core.checkpoints import demo
from ks_core.commands.program import main
from ks_core.commands.scan import PARTS

COLUMNS = ["token_id", "token", "statistic", "pvalue", "winner", "l2", "cosine"]


def process(*arguments):
    return subprocess.run(
        [sys.executable, "-m", "ks_core", *map(str, arguments)], capture_output=True, text=True, timeout=120
    )


def run(*arguments):
    """The same in this process, which need not load anything for it."""
    with contextlib.redirect_stdout(io.StringIO()) as out, contextlib.redirect_stderr(io.StringIO()) as err:
        code = main(list(map(str, arguments)))
    return SimpleNamespace(returncode=code, stdout=out.getvalue(), stderr=err.getvalue())


@pytest.fixture
def pair(tmp_path, tiny_folder):
    """The tiny model, and the same with five rows moved."""
    import shutil

    from transformers import LlamaForCausalLM

    tuned = tmp_path / "tuned"
    model = LlamaForCausalLM.from_pretrained(tiny_folder)
    with torch.no_grad():
        model.get_input_embeddings().weight[[3, 7, 8, 20, 40]] += torch.tensor([5.0, 0.001, 0.2, 3.0, 1.0])[:, None]
    model.save_pretrained(tuned)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(tiny_folder / name, tuned / name)
    return tiny_folder, tuned


@pytest.mark.parametrize("suffix", [".csv", ".parquet", ".json"])
def test_scan_writes_a_row_per_token(pair, tmp_path, suffix):
    output = tmp_path / f"table{suffix}"
    done = run("scan", *pair, "--alpha", "0.05", "--output", output)
    assert done.returncode == 0, done.stderr
    frame = {".csv": pd.read_csv, ".parquet": pd.read_parquet, ".json": pd.read_json}[suffix](output)
    assert set(COLUMNS) <= set(frame.columns) and len(frame) == 64
    assert set(frame[frame.winner].token_id) == {3, 8, 20, 40}
    assert set(frame[frame.l2 > 0].token_id) == {3, 7, 8, 20, 40}
    assert frame.set_index("token_id").token[40] == "w40"
    signature = done.stdout.partition("signature  ")[2].splitlines()[0]
    assert "alpha:0.05" in signature
    if suffix == ".parquet":
        assert pq.read_schema(output).metadata[b"signature"].decode() == signature
    else:
        assert frame.signature[0] == signature


@pytest.mark.parametrize("more", [(), ("--layers",)])
def test_timings_add_up_to_the_whole_process(pair, more):
    began = time.monotonic()
    done = process("scan", *pair, "--timings", *more)
    waited = time.monotonic() - began
    assert done.returncode == 0, done.stderr
    lines = done.stdout.partition("seconds, by part\n")[2].splitlines()
    parts = {line[2:22].strip(): float(line[22:]) for line in lines}
    whole = parts.pop("whole")
    assert list(parts) == [*PARTS, "the rest"] and 0 < whole <= waited + 0.05
    assert sum(parts.values()) == pytest.approx(whole, abs=0.05)  # as printed, in hundredths
    assert parts["start and imports"] > 0
    assert "by part" not in run("scan", *pair, *more).stdout


def test_a_second_scan_comes_from_the_cache_even_of_a_copy(pair, tmp_path):
    import shutil

    assert "on cpu" in run("scan", *pair).stdout
    assert "from the cache" in run("scan", *pair).stdout
    copy = shutil.copytree(pair[1], tmp_path / "copy")
    assert "from the cache" in run("scan", pair[0], copy).stdout
    assert "1 results" in run("cache").stdout
    assert "removed 1" in run("cache", "--clear").stdout


def test_identical_checkpoints_are_said_plainly(tiny_folder):
    done = run("scan", tiny_folder, tiny_folder)
    assert done.returncode == 0 and "identical" in done.stdout and "ticket is empty" in done.stdout


def test_what_was_rounded_and_what_was_not_tested_is_said_and_signed(tmp_path):
    import numpy as np
    from safetensors.numpy import save_file

    rows = np.random.default_rng(0).standard_normal((30, 64)).astype(np.float32)
    for name, saved in (("a", rows), ("b", rows[:25].astype(np.float16))):
        save_file({"model.embed_tokens.weight": saved}, tmp_path / f"{name}.safetensors")
    table = tmp_path / "table.csv"
    done = run("scan", tmp_path / "a.safetensors", tmp_path / "b.safetensors", "--output", table)
    assert "result   All rows that were tested are identical but for rounding: every D is 0" in done.stdout
    assert (
        "note     5 rows of a.safetensors have no partner and are not tested: b.safetensors has only 25." in done.stdout
    )
    assert "note     a.safetensors is stored as F32, b.safetensors as F16." in done.stdout
    for text in (done.stdout, table.read_text()):
        assert "rounded:F32 to F16|untested:5 of base, 0 of tuned" in text
    layers = run("scan", tmp_path / "a.safetensors", tmp_path / "a.safetensors", "--layers").stdout
    assert "note" not in layers


def test_a_cached_scan_imports_nothing_heavy(pair):
    run("scan", *pair)
    code = (
        "import sys; from ks_core.commands.program import main; main(sys.argv[1:]); "
        "print('heavy:', sorted({'torch', 'numba', 'transformers', 'pandas', 'scipy', 'streamlit'} & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, "scan", *map(str, pair)], capture_output=True, text=True, timeout=60
    )
    assert "from the cache" in done.stdout and "heavy: []" in done.stdout, done.stdout


def test_a_ticket_is_saved_and_opens_again(pair, tmp_path):
    folder = tmp_path / "ticket"
    assert run("ticket", *pair, folder, "--rule", "count", "--k", "2").returncode == 0
    assert json.loads((folder / "ticket.json").read_text())["token_ids"] == [3, 20]
    done = run("scan", pair[0], folder)
    assert done.returncode == 0 and "2 of 64 rows changed" in done.stdout
    again = run("ticket", *pair, folder)
    assert again.returncode == 2 and "exists already" in again.stderr


def matrix(path, array):
    save_file({"model.embed_tokens.weight": array}, path)
    return path


def bad_inputs(tmp_path):
    """Arguments of ``scan`` that cannot work, and a word of what is said."""
    good = matrix(tmp_path / "good.safetensors", np.ones((8, 4), np.float32))
    data = good.read_bytes()
    cut = tmp_path / "cut.safetensors"
    cut.write_bytes(data[:-20])
    empty = tmp_path / "empty.safetensors"
    empty.write_bytes(b"")
    text = tmp_path / "text.safetensors"
    text.write_text("this is no checkpoint, but a text that is long enough")
    broken = np.ones((8, 4), np.float32)
    broken[5, 1] = np.nan
    infinite = np.ones((8, 4), np.float32)
    infinite[2, 0] = np.inf
    folder = tmp_path / "nothing"
    folder.mkdir()
    shards = tmp_path / "shards"
    shards.mkdir()
    (shards / "model.safetensors.index.json").write_text(
        json.dumps({"weight_map": {"model.embed_tokens.weight": "model-1.safetensors"}})
    )
    escape = tmp_path / "escape"
    escape.mkdir()
    (escape / "model.safetensors.index.json").write_text(
        json.dumps({"weight_map": {"model.embed_tokens.weight": "../good.safetensors"}})
    )
    return [
        ((tmp_path / "missing", good), "does not exist"),
        ((folder, good), "holds no checkpoint"),
        ((good, cut), "cut short"),
        ((empty, good), "empty"),
        ((text, good), "no safetensors file"),
        ((good, matrix(tmp_path / "nan.safetensors", broken)), "Row 5 after"),
        ((matrix(tmp_path / "inf.safetensors", infinite), good), "Row 2 before"),
        ((good, matrix(tmp_path / "wide.safetensors", np.ones((8, 5), np.float32))), "different width"),
        ((good, matrix(tmp_path / "none.safetensors", np.ones((0, 4), np.float32))), "vocabulary is empty"),
        ((shards, good), "lacks the shard"),
        ((escape, good), "outside its folder"),
        ((good, good, "--alpha", "0"), "alpha is 0"),
        ((good, good, "--alpha", "1.5"), "alpha is 1.5"),
        ((good, good, "--alpha", "nan"), "alpha is nan"),
        ((good, good, "--device", "abacus"), "no device"),
        ((good, good, "--output", tmp_path / "x.xlsx"), "Expected one of"),
        ((good, good, "--output", tmp_path / "no" / "x.csv"), "does not exist"),
        (("org/no-such-model", good), "hub"),
        (("", good), "No checkpoint is named"),
        (("demo:nothing", good), "no run"),
    ]


def test_bad_input_is_one_clear_line(tmp_path, workspace_folder, capsys):
    for arguments, says in bad_inputs(tmp_path):
        assert main(["scan", *map(str, arguments)]) == 2, arguments
        printed = capsys.readouterr()
        assert says in printed.err, (arguments, printed.err)
        assert printed.err.count("\n") == 1 and "Traceback" not in printed.err
    assert not list((workspace_folder / "cache").rglob("*.safetensors")), "nothing of it is cached"


def test_bad_input_ends_a_real_process_with_2(tmp_path):
    done = process("scan", tmp_path / "missing", "demo:base")
    assert done.returncode == 2 and "does not exist" in done.stderr and not done.stdout


def test_a_recipe_that_was_printed_is_still_whole():
    printed = run("demo", "recipe", "en-fr")
    assert printed.returncode == 0 and "training_counts" not in json.loads(printed.stdout)
    assert demo.recipe("en-fr")["training_counts"], "what is printed leaves its lists out, what is known does not"


def test_width_one_works(tmp_path):
    one = matrix(tmp_path / "one.safetensors", np.zeros((4, 1), np.float32))
    other = matrix(tmp_path / "other.safetensors", np.arange(4, dtype=np.float32)[:, None])
    done = run("scan", one, other)
    assert done.returncode == 0 and "no D can reach that" in done.stdout


@pytest.mark.parametrize("command", ["scan", "ticket", "cache", "bench", "demo"])
def test_every_command_has_help_with_an_example(command, capsys):
    with pytest.raises(SystemExit) as end:
        main([command, "--help"])
    assert end.value.code == 0
    assert f"example:  python -m ks_core {command}" in capsys.readouterr().out
