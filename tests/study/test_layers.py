"""Layers: exactly the changed tensors are found, a cancelled scan goes on, LoRAs are merged."""

import contextlib
import copy
import json
import shutil
import sys
import types

import numpy as np
import psutil
import pytest
import torch
from scipy.stats import ks_2samp

from ks_core.errors import Cancelled, CheckpointError, JobError
from ks_core.ks.statistic import pvalue_table
from ks_core.store.cache import Cache
from ks_core.study import layers

CHANGED = (
    "model.layers.0.self_attn.q_proj.weight",
    "model.layers.1.mlp.down_proj.weight",
    "model.norm.weight",
)


@pytest.fixture
def tuned(tmp_path, tiny_model):
    model = copy.deepcopy(tiny_model)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name in CHANGED:
                parameter += 0.02 * torch.randn(parameter.shape, generator=generator)
    model.save_pretrained(tmp_path / "tuned", max_shard_size="5KB")
    return tmp_path / "tuned"


def test_exactly_the_changed_tensors_are_found_and_tested_like_scipy(tiny_folder, tuned, tiny_model):
    scan = layers.scan_layers(str(tiny_folder), str(tuned))
    found = {t.name: t for t in scan.tensors}
    assert {n for n, t in found.items() if t.changed() > 0} == set(CHANGED)
    assert len(found) == len(dict(tiny_model.named_parameters())) and not scan.left_out
    before, after = (
        dict(m.named_parameters())[CHANGED[0]].detach().numpy()
        for m in (tiny_model, type(tiny_model).from_pretrained(tuned))
    )
    counts = [round(ks_2samp(a, b).statistic * 16) for a, b in zip(before, after, strict=True)]
    t = found[CHANGED[0]]
    np.testing.assert_array_equal(np.repeat(t.k, t.rows_at), np.sort(counts))
    assert t.largest == max(counts) / 16
    assert t.share(0.5) == np.mean(pvalue_table(16)[counts] < 0.5)
    assert (found[CHANGED[2]].rows, found[CHANGED[2]].dim) == (1, 16), "a vector is one row"
    assert (t.layer, t.module) == (0, "self_attn.q_proj.weight")
    assert (found[CHANGED[2]].layer, found[CHANGED[2]].module) == (None, "model.norm.weight")


def test_a_model_that_was_saved_in_another_type_has_no_changed_tensor(tiny_folder, tuned, tiny_model, tmp_path):
    """What rounding alone changed is taken away, and said; what was trained is found through it."""
    whole = dict(tiny_model.named_parameters())
    copy.deepcopy(tiny_model).half().save_pretrained(tmp_path / "half")
    same = layers.scan_layers(str(tiny_folder), str(tmp_path / "half"))
    assert len(same.tensors) == len(whole) and not any(t.changed() for t in same.tensors)
    assert same.signature.fields["rounded"] == f"{len(whole)} F32 to F16"
    assert any(note.startswith(f"{len(whole)} tensors are stored otherwise on either side") for note in same.notes)
    type(tiny_model).from_pretrained(tuned).bfloat16().save_pretrained(tmp_path / "bf16")
    found = layers.scan_layers(str(tmp_path / "half"), str(tmp_path / "bf16"))
    assert {t.name for t in found.tensors if t.changed()} == set(CHANGED)
    alike = layers.scan_layers(str(tiny_folder), str(tuned))
    assert "rounded" not in alike.signature.fields and not [n for n in alike.notes if "stored otherwise" in n]


def test_a_cancelled_scan_loses_no_finished_tensor(tiny_folder, tuned, tmp_path, monkeypatch):
    cache = Cache(tmp_path / "cache")

    def stop(done, total, name):
        if name == CHANGED[2]:
            raise Cancelled

    with pytest.raises(Cancelled):
        layers.scan_layers(str(tiny_folder), str(tuned), cache=cache, report=stop)
    kept = len(cache.entries())
    assert kept == 2
    tested = []
    plain = layers.ks_test
    monkeypatch.setattr(layers, "ks_test", lambda *a, **k: tested.append(1) or plain(*a, **k))
    scan = layers.scan_layers(str(tiny_folder), str(tuned), cache=cache)
    assert len(tested) == 1 and len(scan.tensors) == scan.reused + 1
    layers.scan_layers(str(tiny_folder), str(tuned), cache=cache)
    assert len(tested) == 1


def test_a_lora_is_merged_on_the_fly(tmp_path, tiny_folder, tiny_model):
    from peft import LoraConfig, get_peft_model

    model = get_peft_model(
        copy.deepcopy(tiny_model), LoraConfig(r=2, lora_alpha=6, target_modules=["q_proj", "embed_tokens"])
    )
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora" in name:
                parameter += 0.1
    folder = tmp_path / "adapter"
    model.save_pretrained(folder)
    settings = json.loads((folder / "adapter_config.json").read_text())
    settings["base_model_name_or_path"] = str(tiny_folder)
    (folder / "adapter_config.json").write_text(json.dumps(settings))
    merged = tmp_path / "merged"
    model.merge_and_unload().save_pretrained(merged)
    by_adapter = {t.name: t for t in layers.scan_layers(str(tiny_folder), str(folder)).tensors}
    by_merging = {t.name: t for t in layers.scan_layers(str(tiny_folder), str(merged)).tensors}
    changed = {n for n, t in by_adapter.items() if t.changed() > 0}
    assert changed == {
        "model.embed_tokens.weight",
        *(f"model.layers.{i}.self_attn.q_proj.weight" for i in (0, 1)),
    }
    for name in changed:
        np.testing.assert_array_equal(by_adapter[name].k, by_merging[name].k)


def test_what_cannot_be_compared_is_listed_or_explained(tmp_path, tiny_folder, tiny_model):
    from safetensors.torch import load_file, save_file

    other = shutil.copytree(tiny_folder, tmp_path / "other")
    tensors = load_file(other / "model.safetensors")
    tensors["extra"] = torch.ones(2)
    tensors["model.norm.weight"] = torch.ones(8)
    tensors["ids"] = torch.ones(3, dtype=torch.int64)
    save_file(tensors, other / "model.safetensors")
    scan = layers.scan_layers(str(tiny_folder), str(other))
    assert sorted(note.partition(":")[0] for note in scan.left_out) == ["extra", "ids", "model.norm.weight"]
    torch.save(dict(tiny_model.state_dict()), tmp_path / "m.bin")
    with pytest.raises(CheckpointError, match="not stored as safetensors"):
        layers.scan_layers(str(tiny_folder), str(tmp_path / "m.bin"))
    tensors["model.layers.0.mlp.up_proj.weight"][0, 0] = float("nan")
    save_file(tensors, other / "model.safetensors")
    with pytest.raises(CheckpointError, match=r"up_proj\.weight: Row 0 after"):
        layers.scan_layers(str(tiny_folder), str(other))


def test_the_table_and_the_quantiles(tiny_folder, tuned):
    scan = layers.scan_layers(str(tiny_folder), str(tuned))
    frame = layers.table(scan, 0.05)
    assert set(frame[frame.changed > 0].tensor) == set(CHANGED)
    t = layers.TensorResult("x", 4, 10, 0, np.array([0, 2, 5]), np.array([2, 1, 1]))
    assert [t.quantile(q) for q in (0.0, 0.5, 0.75, 1.0)] == [0.0, 0.0, 0.2, 0.5]


@pytest.fixture
def somebodys_program(tmp_path, monkeypatch):
    """The main module is a script without a guard, as a page or a user's own program is."""
    script = tmp_path / "program.py"
    script.write_text(f"open({str(tmp_path / 'ran')!r}, 'a').write('again')")
    main = types.ModuleType("__main__")
    main.__file__ = str(script)
    monkeypatch.setitem(sys.modules, "__main__", main)
    return tmp_path / "ran"


def test_the_processes_do_not_run_the_callers_program(tiny_folder, tuned, somebodys_program):
    layers.scan_layers(str(tiny_folder), str(tuned), processes=2)
    assert not somebodys_program.exists()


@pytest.mark.parametrize("processes", [2, 4])
def test_several_processes_give_what_one_gives(tiny_folder, tuned, tmp_path, processes):
    alone = layers.scan_layers(str(tiny_folder), str(tuned), cache=Cache(tmp_path / "one"))
    seen = []
    together = layers.scan_layers(
        str(tiny_folder), str(tuned), processes=processes, cache=Cache(tmp_path / "several"),
        report=lambda done, total, name: seen.append((done, total)),
    )  # fmt: skip
    assert [t.name for t in together.tensors] == [t.name for t in alone.tensors]
    for one, other in zip(alone.tensors, together.tensors, strict=True):
        assert (one.rows, one.dim, one.bytes) == (other.rows, other.dim, other.bytes)
        np.testing.assert_array_equal(one.k, other.k)
        np.testing.assert_array_equal(one.rows_at, other.rows_at)
    assert str(together.signature) == str(alone.signature) and together.reused == alone.reused
    assert [done for done, _ in seen] == sorted(done for done, _ in seen) and seen[-1][0] == seen[-1][1]
    again = layers.scan_layers(str(tiny_folder), str(tuned), cache=Cache(tmp_path / "several"))
    assert again.reused == len(again.tensors), "the processes' results are in the cache"


def test_a_killed_process_of_several_is_said_and_what_is_done_is_kept(tiny_folder, tuned, tmp_path):
    cache = Cache(tmp_path / "cache")

    def kill(done, total, name):
        for child in psutil.Process().children():
            with contextlib.suppress(psutil.NoSuchProcess):  # the pool ends the others itself when it finds one killed
                if "spawn_main" in " ".join(child.cmdline()):
                    child.kill()

    with pytest.raises(JobError, match="One of the 2 processes was killed"):
        layers.scan_layers(str(tiny_folder), str(tuned), processes=2, cache=cache, report=kill)
    whole = layers.scan_layers(str(tiny_folder), str(tuned), processes=2, cache=cache)
    assert len(whole.tensors) > len(CHANGED)


def test_cancelling_several_processes_leaves_none(tiny_folder, tuned):
    def stop(done, total, name):
        if done:
            raise Cancelled

    with pytest.raises(Cancelled):
        layers.scan_layers(str(tiny_folder), str(tuned), processes=2, report=stop)
    assert not [c for c in psutil.Process().children() if "spawn_main" in " ".join(c.cmdline())]
