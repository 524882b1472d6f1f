"""The comparison of seeds, on the tiny model."""

import copy

import numpy as np
import pytest

from gpu import seeds
from helpers import tiny_text
from ks_core.likelihood.examples import encode


@pytest.fixture
def tiny(monkeypatch, tmp_path, tiny_model, tiny_tokenizer):
    """The tiny model and text in the place of the demo's."""
    corpus = tiny_text.corpus(tmp_path, 200).load()

    class Tiny(seeds.Demo):
        def __init__(self, device):
            self.model, self.tokenizer = copy.deepcopy(tiny_model), tiny_tokenizer
            self.train = encode(corpus, tiny_tokenizer, "w3 {source} w4", 128)
            self.development, self.test = self.train[:12], self.train[12:20]

    monkeypatch.setattr(seeds, "Demo", Tiny)
    monkeypatch.setattr(seeds, "SIZES", (1, 64))


@pytest.mark.whole
def test_seeds_are_compared(tiny):
    found = [seeds.one(seed, 80, "cpu") for seed in (0, 1)]
    for made in found:
        for optimizer in seeds.ROWWISE:
            real, noise = made[f"{optimizer} real"], made[f"{optimizer} noise"]
            assert sum(real["nats"]) < sum(made["base"]), "it learns"
            assert sum(noise["nats"]) > sum(real["nats"]), "noise teaches nothing"
            assert real["steps"] == noise["steps"] and np.array(real["L2"])[np.array(real["steps"]) > 0].all()
            assert real["complete"] == pytest.approx(1, abs=0.1)
            for rule in seeds.RULES:  # every row, whichever rule orders them
                assert real["copied"][rule][1] == pytest.approx(real["nats"], rel=1e-4)
    said = "\n".join(seeds.tables(found))
    assert "| 64 | 100% [100%, 100%] | 100%" in said and said.count("| rows with p < 0.05 |") == 2


def test_a_rule_takes_the_first_and_ties_by_shift():
    run = {"L2": [0.0, 3.0, 1.0, 2.0], "D": [0.5, 0.5, 0.5, 0.1]}
    assert seeds.chosen(run, "D", 2).tolist() == [1, 2] and seeds.chosen(run, "L2", 1).tolist() == [1]
    assert 0 not in seeds.chosen(run, "random", 3), "a row that did not change is no candidate"
