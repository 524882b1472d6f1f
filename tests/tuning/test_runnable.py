"""What can be run is told from a checkpoint's files; the rest is refused with the reason before anything is loaded."""

import json

import pytest
from streamlit.testing.v1 import AppTest

from helpers import architectures, tiny_text
from helpers.places import APP
from helpers.samples import folder, gguf, index, safetensors, write
from ks_core.commands.program import main
from ks_core.errors import KSLotteryError, ModelError
from ks_core.jobs import queue
from ks_core.study.scan import Study
from ks_core.tuning import runnable
from ks_core.tuning.models import load_model


@pytest.mark.parametrize("name", ["CAUSAL_LM", "SEQ_TO_SEQ_CAUSAL_LM", "IMAGE_TEXT_TO_TEXT", "MASKED_LM"])
def test_the_lists_are_transformers_own(name):
    assert runnable.known_classes(name) == architectures.names(name)


@pytest.mark.parametrize(
    ("kind", "named", "settings", "way"),
    [
        ("llama", "LlamaForCausalLM", {}, runnable.DECODER),
        ("llama", "", {}, runnable.DECODER),
        ("qwen3", "Qwen3Model", {"tie_word_embeddings": True}, runnable.DECODER),
        ("bart", "BartForCausalLM", {"is_decoder": True, "is_encoder_decoder": False}, runnable.DECODER),
        ("bert", "BertLMHeadModel", {"is_decoder": True}, runnable.DECODER),
        ("bart", "BartForConditionalGeneration", {}, runnable.ENCODER_DECODER),
        ("bart", "BartModel", {}, runnable.ENCODER_DECODER),
        ("m2m_100", "M2M100ForConditionalGeneration", {}, runnable.ENCODER_DECODER),
        ("marian", "MarianMTModel", {}, runnable.ENCODER_DECODER),
        ("t5", "", {}, runnable.ENCODER_DECODER),
        ("marian", "", {"is_encoder_decoder": True}, runnable.ENCODER_DECODER),
        ("gemma3", "Gemma3ForConditionalGeneration", {}, runnable.MULTIMODAL),
        ("llava", "LlavaForConditionalGeneration", {}, runnable.MULTIMODAL),
    ],
)
def test_how_a_model_is_run(kind, named, settings, way):
    config = {"model_type": kind, **({"architectures": [named]} if named else {}), **settings}
    assert runnable.way_of(config, "here") == way


@pytest.mark.parametrize(
    ("kind", "named", "settings", "says"),
    [
        ("llama", "LlamaForSequenceClassification", {}, "is a LlamaForSequenceClassification"),
        ("qwen3", "Qwen3Model", {"tie_word_embeddings": False}, "need a model with a language head"),
        ("t5", "T5EncoderModel", {}, "is a T5EncoderModel"),
        ("bert", "BertForMaskedLM", {}, "is a BertForMaskedLM"),
        ("bert", "BertLMHeadModel", {}, "sees the words after"),
        ("bert", "", {}, "sees the words after"),
        ("xlnet", "XLNetLMHeadModel", {}, "sees the words after"),
        ("qwen2_audio", "Qwen2AudioForConditionalGeneration", {"audio_config": {}}, "writes no text"),
        ("own", "OwnForCausalLM", {"auto_map": {}}, "does not know by itself"),
        ("", "", {}, "model type unknown"),
    ],
)
def test_what_is_not_run_says_what_it_is(kind, named, settings, says):
    config = {"model_type": kind, **({"architectures": [named]} if named else {}), **settings}
    with pytest.raises(ModelError, match=says):
        runnable.way_of(config, "here")


def test_files_that_are_not_there(tmp_path):
    shards = folder(
        model__safetensors__index__json=index({"model.embed_tokens.weight": "a.safetensors", "x": "b.safetensors"}),
        a__safetensors=safetensors(),
    )
    del shards["model.safetensors"]
    alone = {"m.safetensors": safetensors()}
    for name, files, says in (
        ("shards", shards, r"lacks the shard b\.safetensors"),
        ("alone", alone, r"lacks config\.json"),
    ):
        with pytest.raises(KSLotteryError, match=says):
            runnable.check(str(write(tmp_path / name, files)))
    runnable.check(str(write(tmp_path / "whole", folder())), "", str(write(tmp_path / "gguf", {"m.gguf": gguf()})))
    assert not runnable.reads_with_encoder(str(tmp_path / "nothing"))


@pytest.fixture
def classifier(tmp_path):
    """A tiny Llama that says it is a classifier: its files are all there."""
    model = architectures.model("llama")
    model.save_pretrained(tmp_path / "classifier")
    tiny_text.tokenizer().save_pretrained(tmp_path / "classifier")
    path = tmp_path / "classifier" / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"architectures": ["LlamaForSequenceClassification"]}))
    return str(tmp_path / "classifier")


def test_nothing_starts_with_a_classifier(classifier, capsys):
    for words in (["tune", classifier, "--arms", "base"], ["evaluate", classifier], ["audit", classifier, classifier]):
        assert main(words) == 2
        assert "is a LlamaForSequenceClassification" in capsys.readouterr().err
    assert not queue.all_jobs()
    with pytest.raises(ModelError, match="is a LlamaForSequenceClassification"):
        load_model(classifier)


def test_the_pages_offer_no_run_of_it(classifier):
    Study(classifier, classifier).scan()
    at = AppTest.from_file(APP, default_timeout=60)
    at.query_params["base"] = at.query_params["tuned"] = classifier
    at = at.run().switch_page("pages/fine_tune.py").run()
    assert not at.exception and any("LlamaForSequenceClassification" in e.value for e in at.error)
    assert not [b for b in at.button if b.label == "Start the run"]
