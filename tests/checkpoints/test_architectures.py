"""Every architecture that transformers builds tiny, as it saves it: the right tensor is opened, with the right rows."""

import numpy as np
import pytest
import torch

from helpers import architectures, encoders
from ks_core.checkpoints.opening import open_checkpoint
from ks_core.errors import CheckpointError
from ks_core.tuning import runnable


def kinds():
    """The quick families, and all others of the table for `make architectures`."""
    for mapping, quick in architectures.QUICK.items():
        listed = architectures.PICTURES if mapping == "IMAGE_TEXT_TO_TEXT" else runnable.known_classes(mapping)
        others = [k for k in listed if k not in quick and k not in architectures.LEFT_OUT.get(mapping, {})]
        for kind in (*quick, *others):
            marks = () if kind in quick else pytest.mark.architectures
            yield pytest.param(kind, mapping, id=f"{mapping.partition('_')[0].lower()}-{kind}", marks=marks)


def rows_of(model):
    """The input embedding of a model, with a little noise: zeros, as a row for padding is, could stand anywhere."""
    wanted = model.get_input_embeddings().weight.detach()
    with torch.no_grad():
        wanted += torch.randn(wanted.shape, generator=torch.Generator().manual_seed(1))
    return wanted.numpy()


@pytest.mark.parametrize(("kind", "mapping"), kinds())
def test_an_architecture_is_opened(tmp_path, kind, mapping):
    model = architectures.model(kind, mapping)
    wanted = rows_of(model)
    model.save_pretrained(tmp_path / "whole")
    sources = [str(tmp_path / "whole")]
    if mapping == "CAUSAL_LM":
        model.base_model.save_pretrained(
            tmp_path / "body"
        )  # as AutoModel saves: without the head, and names without their prefix
        sources.append(str(tmp_path / "body"))
    for source in sources:
        try:
            found = open_checkpoint(source)
        except CheckpointError as several:
            assert "several embeddings" in str(several), several
            found = open_checkpoint(f"{source}::encoder")
        np.testing.assert_array_equal(found.matrix.block(0, found.shape[0]), wanted, err_msg=source)


def encoder_kinds():
    others = [k for k in architectures.names("MASKED_LM") if k not in encoders.QUICK and k not in encoders.LEFT_OUT]
    for kind in (*encoders.QUICK, *others):
        yield pytest.param(kind, marks=() if kind in encoders.QUICK else pytest.mark.architectures)


@pytest.mark.parametrize("kind", encoder_kinds())
def test_an_encoder_is_opened(tmp_path, kind):
    model = encoders.model(kind)
    wanted = rows_of(model)
    model.save_pretrained(tmp_path)
    found = open_checkpoint(str(tmp_path))
    np.testing.assert_array_equal(found.matrix.block(0, found.shape[0]), wanted)


def test_the_encoders_that_are_left_out_are_on_the_list():
    assert set(encoders.LEFT_OUT) <= set(architectures.names("MASKED_LM")) - set(encoders.QUICK)
