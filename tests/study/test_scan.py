"""What a scan says of a pair whose sides are stored otherwise, or of which a part cannot be compared."""

import json

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from ks_core.study.scan import Study, table
from ks_core.tickets.selection import select
from ks_core.tickets.ticket import ticket_of

NAME = "model.embed_tokens.weight"
TOKENS = [f"t{n}" for n in range(40)]
MOVED = [5, 17, 39]
ROWS = torch.from_numpy((np.random.default_rng(0).standard_normal((40, 64)) * 0.02).astype(np.float32))
TUNED = ROWS.clone()
TUNED[MOVED] += 0.4


@pytest.fixture
def save(tmp_path):
    """A folder with rows and a vocabulary, as a source."""

    def saved(name, rows, pieces=TOKENS):
        folder = tmp_path / name
        folder.mkdir()
        save_file({NAME: rows.contiguous()}, folder / "model.safetensors")
        (folder / "tokenizer.json").write_text(json.dumps({"model": {"vocab": [[piece, 0] for piece in pieces]}}))
        return str(folder)

    return saved


@pytest.mark.parametrize("kind", [torch.bfloat16, torch.float16])
def test_a_scan_of_a_model_against_its_own_rounding_finds_nothing_and_says_why(save, kind):
    study = Study(save("base", ROWS), save("tuned", ROWS.to(kind)))
    scan = study.scan()
    how = f"F32 to {'BF16' if kind == torch.bfloat16 else 'F16'}"
    assert not scan.changed.any() and (scan.counts == 0).all()
    assert scan.signature.fields["rounded"] == how and study.key["rounded"] == how
    assert study.pair.alike == "The two are identical but for rounding"
    assert any(f"the values are rounded, {how}:" in note for note in study.pair.notes)


def test_rows_that_were_trained_are_found_through_it(save):
    scan = Study(save("base", ROWS.bfloat16()), save("tuned", TUNED.half())).scan()
    assert scan.token_ids[scan.changed].tolist() == scan.token_ids[scan.winners(0.05)].tolist() == MOVED
    assert scan.signature.fields["rounded"] == "BF16 and F16 to both"


def test_where_both_sides_are_stored_alike_nothing_is_said_and_no_older_scan_is_lost(save):
    study = Study(save("base", ROWS.bfloat16()), save("tuned", TUNED.bfloat16()))
    assert set(study.key) == {"base", "tuned", "base_vocabulary", "tuned_vocabulary", "version"}
    assert study.pair.notes == [] and not {"rounded", "untested"} & set(study.scan().signature.fields)


def test_a_ticket_has_the_rows_as_they_are_stored(save):
    study = Study(save("base", ROWS.bfloat16()), save("tuned", TUNED))
    scan = study.scan()
    ticket = ticket_of(study, scan, select(scan, rule="alpha"), rule="alpha", alpha=0.05)
    assert sorted(ticket.token_ids) == MOVED
    np.testing.assert_array_equal(ticket.rows, TUNED[list(ticket.token_ids)].numpy())
    assert (study.pair.after.block(0, 40) != study.pair.tuned_rows.block(0, 40)).any()


def test_the_signature_says_how_many_rows_were_not_tested(save):
    study = Study(save("base", ROWS), save("tuned", torch.cat([TUNED[:38], ROWS[:9]]), [*TOKENS[:38], *"abcdefghi"]))
    scan = study.scan()
    assert (len(scan.token_ids), study.pair.untested) == (40, 7)
    assert scan.signature.fields["untested"] == "0 of base, 7 of tuned"
    cut = Study(save("first", ROWS), save("second", ROWS[:30], TOKENS[:30]))
    assert cut.scan().signature.fields["untested"] == "10 of base, 0 of tuned"
    assert cut.pair.alike == "All rows that were tested are identical"


def test_a_row_that_a_token_was_put_into_is_called_by_it(save):
    spare = torch.cat([ROWS, torch.zeros(3, 64)])
    tuned = torch.cat([TUNED, torch.full((3, 64), 0.1) * torch.linspace(-1, 1, 64)])
    renamed = [*TOKENS[:5], "<new>", *TOKENS[6:], "<more>"]
    study = Study(save("base", spare), save("tuned", tuned, renamed))
    scan = study.scan()
    assert scan.token_ids[scan.winners(0.05)].tolist() == [*MOVED, 40, 41, 42]
    named = dict(zip(*(table(study, scan, 0.05)[c] for c in ("token_id", "token")), strict=True))
    assert (named[5], named[40], named[42]) == ("t5 → <new>", "<more>", "(id 42)")
    assert all(study.token_string(i) == named[i] for i in (0, 5, 40, 42))
