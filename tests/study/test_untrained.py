"""Rows that look under-trained, and an extended vocabulary: small matrices done by hand."""

import numpy as np
import pytest
from safetensors.numpy import save_file

from ks_core.checkpoints.matrices import ArrayMatrix
from ks_core.errors import SettingsError
from ks_core.study import extension, untrained
from ks_core.study.scan import Study


def pair(tmp_path, before, after):
    for name, rows in (("a", before), ("b", after)):
        save_file({"model.embed_tokens.weight": rows}, tmp_path / f"{name}.safetensors")
    return Study(str(tmp_path / "a.safetensors"), str(tmp_path / "b.safetensors"))


def test_the_shortest_are_suspects_where_no_row_is_reserved(tmp_path):
    before = np.random.default_rng(0).normal(size=(100, 32)).astype(np.float32)
    before[[7, 40]] *= 0.01
    after = before.copy()
    after[7] += 1
    study = pair(tmp_path, before, after)
    found = untrained.find(study)
    assert np.nonzero(found.suspect)[0].tolist() == [7, 40] and np.isnan(found.distance).all()
    np.testing.assert_allclose(found.length, np.linalg.norm(before, axis=1), rtol=1e-6)
    said = found.sentence(study.scan(), np.array([7, 8, 9]))
    assert (
        "2 rows look under-trained: those shortest in the base. 1 of them changed here, and 1 are in the ticket of 3, where as many "
        "changed rows by chance would have 3.0" in said
    )
    assert untrained.cached(study) is not None


def test_the_nearest_to_reserved_rows_are_found_whatever_all_rows_share():
    generator = np.random.default_rng(0)
    rows = generator.normal(size=(200, 32)).astype(np.float32) + 5  # a part that all share
    own = generator.normal(size=32) * 3
    near = [3, 50, *range(190, 200)]
    rows[near] = own + 5 + 0.1 * generator.normal(size=(12, 32))
    reserved = np.zeros(200, bool)
    reserved[190:] = True
    _, distance, reference = untrained.judged(ArrayMatrix(rows), reserved)
    assert reference == 10 and set(np.argsort(distance)[:12]) == set(near)
    assert np.isnan(untrained.judged(ArrayMatrix(rows), np.zeros(200, bool))[1]).all()


def test_old_and_new_rows_of_an_extended_vocabulary(tmp_path):
    base = np.random.default_rng(0).normal(size=(30, 64)).astype(np.float32)
    tuned = np.concatenate([base, np.tile(base.mean(0), (4, 1)), base[:2]]).astype(np.float32)
    tuned[:3] += 3
    study = pair(tmp_path, base, tuned)
    found = extension.extension_of(study, study.scan(), 0.05)
    assert (found.old, found.old_changed, found.old_won, found.new, found.tested) == (30, 3, 3, 6, False)
    assert found.still == 0, "three old rows have moved the mean"
    tuned[:3] = base[:3]
    study = pair(tmp_path, base, tuned)
    assert extension.extension_of(study, study.scan(), 0.05).still == 4
    both = tuned.copy()
    both[[2, 31, 32]] += 3
    study = pair(tmp_path, tuned, both)
    assert extension.extension_of(study, study.scan(), 0.05) is None
    found = extension.extension_of(study, study.scan(), 0.05, first_new=30)
    assert (found.old, found.old_won, found.new, found.new_changed, found.new_won) == (30, 1, 6, 2, 2)
    assert "Of the new ones 2 changed and 2 have p < 0.05" in found.sentence
    with pytest.raises(SettingsError, match="Expected an id from 1 to 35"):
        extension.extension_of(study, study.scan(), 0.05, first_new=36)
