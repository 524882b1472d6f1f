"""Of several embeddings one is chosen behind two colons: in Python, on the command line, in a page's fields and in its links."""

import json

import numpy as np
import pytest
from streamlit.testing.v1 import AppTest

from helpers import samples
from helpers.places import APP
from ks_core.checkpoints import whole
from ks_core.checkpoints.adapters import write_trainable_tokens
from ks_core.checkpoints.opening import open_checkpoint
from ks_core.commands.program import main
from ks_core.errors import AccessError, CheckpointError, ModelError
from ks_core.store import access, prepared
from ks_core.study.scan import Study
from ks_core.values import without_choice

ENCODER, DECODER = (f"model.{half}.embed_tokens.weight" for half in ("encoder", "decoder"))


@pytest.fixture
def pair(tmp_path):
    """A base with two embeddings, and the same with three rows of the decoder's moved."""
    moved = samples.ROWS.copy()
    moved[[3, 5, 8]] += 1
    for side, rows in (("base", samples.ROWS), ("tuned", moved)):
        weights = samples.safetensors({ENCODER: samples.ROWS[:9], DECODER: rows})
        samples.write(
            tmp_path / side, {"model.safetensors": weights, "config.json": b"{}", "tokenizer.json": samples.tokenizer()}
        )
    return str(tmp_path / "base"), str(tmp_path / "tuned")


def test_a_part_of_the_name_chooses_or_all_of_it(pair):
    base, _ = pair
    with pytest.raises(CheckpointError, match="put ::decoder or ::encoder behind"):
        open_checkpoint(base)
    assert open_checkpoint(f"{base}::encoder").shape == (9, 32)
    assert open_checkpoint(f"{base}::decoder").shape == (12, 32)
    found = open_checkpoint(f"{base}/model.safetensors::{DECODER}")
    assert (found.tensor, found.source) == (DECODER, f"{base}/model.safetensors::{DECODER}")
    with pytest.raises(CheckpointError, match=r"no embedding 'middle' .*encoder"):
        open_checkpoint(f"{base}::middle")


def test_a_choice_that_fits_several_lists_them(tmp_path):
    names = ("thinker.audio.embed_tokens.weight", "thinker.text.embed_tokens.weight", "talker.embed_tokens.weight")
    samples.write(tmp_path, {"m.safetensors": samples.safetensors(dict.fromkeys(names, samples.ROWS))})
    with pytest.raises(CheckpointError, match="put ::audio or ::text behind"):
        open_checkpoint(f"{tmp_path / 'm.safetensors'}::thinker")


def test_it_chooses_by_the_index_of_shards(tmp_path):
    files = {
        "a.safetensors": samples.safetensors({ENCODER: samples.ROWS}),
        "b.safetensors": samples.safetensors({DECODER: samples.ROWS + 1}),
    }
    files["model.safetensors.index.json"] = samples.index({ENCODER: "a.safetensors", DECODER: "b.safetensors"})
    samples.write(tmp_path, files)
    np.testing.assert_array_equal(open_checkpoint(f"{tmp_path}::decoder").matrix.block(0, 12), samples.ROWS + 1)


def test_it_chooses_below_an_adapter(pair, tmp_path):
    base, _ = pair
    write_trainable_tokens(
        tmp_path / "a", [3], np.ones((1, 32), np.float32), base=f"{base}::decoder", module=DECODER[:-7]
    )
    found = open_checkpoint(str(tmp_path / "a"))
    assert found.base is not None and found.base.tensor == DECODER and found.changed_ids.tolist() == [3]


def test_a_folder_with_two_colons_in_its_name_ends_with_two_more(tmp_path):
    place = samples.write(tmp_path / "a::b", samples.folder())
    assert open_checkpoint(f"{place}::").shape == (12, 32)
    with pytest.raises(CheckpointError, match="does not exist"):
        open_checkpoint(str(place))
    assert without_choice("a::b::") == ("a::b", "")


def test_on_the_command_line(pair, capsys):
    assert main(["scan", *(f"{side}::decoder" for side in pair)]) == 0
    assert "3 of 12 rows changed" in capsys.readouterr().out
    assert main(["scan", *(f"{side}::encoder" for side in pair)]) == 0
    assert "identical" in capsys.readouterr().out
    assert main(["scan", *pair]) == 2
    assert "::decoder or ::encoder" in capsys.readouterr().err


def page(base, tuned):
    """The page Checkpoints, by a link with these sources: the values of the link are those of the fields in the sidebar."""
    at = AppTest.from_file(APP, default_timeout=60)
    at.query_params["base"], at.query_params["tuned"] = base, tuned
    at = at.run()
    assert at.sidebar.text_input(key="base").value == base
    return at.switch_page("pages/checkpoints.py").run()


def test_in_the_fields_of_a_page_and_its_link(pair):
    chosen = [f"{side}::decoder" for side in pair]
    Study(*chosen).scan()  # or the page would start a job
    at = page(*chosen)
    assert not at.exception and not at.error
    assert any(DECODER in shown.value.to_string() for shown in at.table)
    at = page(*pair)
    assert not at.exception and any("::decoder or ::encoder" in e.value.replace("\\", "") for e in at.error)


def test_a_read_only_server_shows_what_was_prepared_and_no_other_choice(pair, monkeypatch):
    base, tuned = (f"{side}::decoder" for side in pair)
    prepared.keep(prepared.named("Decoders", base, tuned))
    monkeypatch.setenv(access.READ_ONLY, "1")
    assert open_checkpoint(base).tensor == DECODER
    for other in (pair[0], f"{pair[0]}::encoder"):
        with pytest.raises(AccessError, match="not among the studies"):
            open_checkpoint(other)


def test_what_a_model_does_not_read_by_is_not_tuned(pair):
    base, _ = pair
    whole.check(f"{base}::encoder")
    with pytest.raises(ModelError, match="not what the model reads its text by"):
        whole.check(f"{base}::decoder")


def test_the_models_own_by_its_name_is_tuned(tmp_path):
    samples.write(tmp_path, samples.folder(config__json=json.dumps({"model_type": "llama"}).encode()))
    whole.check(f"{tmp_path}::{samples.NAME}")
