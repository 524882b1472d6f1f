"""What ``make gpu`` runs, as far as a CPU can run it."""

import pytest
import torch

from gpu import card


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU, and it would be used")
def test_without_a_gpu_it_says_so_and_ends_well(capsys):
    assert card.main([]) == 0
    said = capsys.readouterr().out
    assert said.startswith("This machine has no GPU") and "|" not in said


@pytest.mark.whole
def test_every_part_runs_on_the_cpu(capsys):
    assert card.main(["--device", "torch:cpu", "--small"]) == 0
    said = capsys.readouterr().out
    for part in (
        "integers",
        "300 x 64",
        "Rows",
        "Training",
        "Writing",
        "Reading references",
        "Recording a training",
        "Two cards",
    ):
        assert f"\n## {part}" in said or part in said
    integers = [line.split("|") for line in said.splitlines() if line.startswith(("| bfloat16 | 16", "| float"))]
    assert {cells[1].strip() for cells in integers} >= {"bfloat16", "float16", "float32", "float64"}
    assert "this program, torch on cpu" in said and " NO |" not in said
    assert "Not run: it takes two GPUs." in said


def test_integers_that_differ_are_told(monkeypatch, capsys):
    real = card.ks_test

    def one_off(a, b, device, with_shift):
        found = real(a, b, device="cpu", with_shift=with_shift)
        found.counts[0] += device != "cpu"
        return found

    monkeypatch.setattr(card, "ks_test", one_off)
    assert not card.integers("torch:cpu", small=True)
