"""Every way of saving that people use: opened with the right rows, or refused with the remedy; and the document says the same."""

import numpy as np
import pytest

from helpers import samples
from helpers.ways import document
from helpers.ways.table import WAYS, expected, rows
from helpers.ways.vocabularies import vocabularies
from ks_core.checkpoints.matrices import to_floats
from ks_core.checkpoints.opening import open_checkpoint
from ks_core.checkpoints.vocabulary import FILES
from ks_core.errors import CheckpointError


@pytest.mark.parametrize("way", WAYS, ids=lambda way: way.title.replace("`", ""))
def test_a_way_of_saving(tmp_path, tiny_model, way):
    place = tmp_path / "saved"
    source = str(way.write(place, tiny_model))
    if way.refused:
        with pytest.raises(CheckpointError, match=way.refused):
            open_checkpoint(source)
        return
    found = open_checkpoint(source)
    wanted = expected.get(place, rows(tiny_model))
    assert found.shape == wanted.shape and found.source == source
    whole = to_floats(np.asarray(found.matrix.block(0, 64)), found.matrix.dtype)
    np.testing.assert_allclose(whole, wanted, rtol=0, atol=way.atol)
    # Block by block comes the same, and the hash is that of the rows.
    some = to_floats(np.asarray(found.matrix.block(5, 9)), found.matrix.dtype)
    np.testing.assert_array_equal(some, whole[5:9])
    assert len(found.content_hash) == 64


def test_the_document_says_what_the_table_says():
    assert document.DOCUMENT.read_text(encoding="utf-8") == document.document(), (
        "write it again: python -m helpers.ways.document"
    )


@pytest.mark.parametrize("name", [*FILES, "qwen.tiktoken"])
def test_a_vocabulary_under_its_usual_name(tmp_path, name):
    content, token, shown = vocabularies()[name]
    samples.write(tmp_path, {"model.safetensors": samples.safetensors(), name: content})
    words = open_checkpoint(str(tmp_path)).vocabulary
    assert words is not None and words.readable(token) == shown
