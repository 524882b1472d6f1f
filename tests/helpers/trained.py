"""Short trainings of the tiny model in which its embedding moves, and where it is saved."""

from __future__ import annotations

import copy

import torch

from ks_core.likelihood.rows import lay_over

#: Token ids of the batches, a step each. Rows 0 to 4 and 40 to 63 are never read.
BATCHES = [[[5, 6, 7, 8]], [[5, 9, 10, 11]], [[5, 12, 13, 14]], [[6, 30, 31, 39]], [[5, 6, 7, 30]], [[9, 9, 9, 9]]]


def whole(tiny_model, *, tied=False):
    """A copy whose whole embedding is trained and nothing else; with ``tied`` the output layer is the same matrix."""
    model = copy.deepcopy(tiny_model).requires_grad_(False)
    if not tied:
        model.lm_head.weight = torch.nn.Parameter(model.lm_head.weight.detach().clone(), requires_grad=False)
        model.config.tie_word_embeddings = False
    model.get_input_embeddings().weight.requires_grad_(True)
    return model


def rows(tiny_model):
    """A copy with rows laid over it."""
    model = copy.deepcopy(tiny_model)
    lay_over(model, [5, 6, 7, 9, 30])
    return model


def adapted(tiny_folder, kind):
    """A peft model over the saved tiny model: ``tokens``, ``lora`` or ``saved``."""
    from peft import LoraConfig, TrainableTokensConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    torch.manual_seed(0)
    base = AutoModelForCausalLM.from_pretrained(tiny_folder)
    settings = {
        "tokens": lambda: TrainableTokensConfig(
            token_indices=[5, 6, 30], target_modules=["embed_tokens"], task_type="CAUSAL_LM"
        ),
        "lora": lambda: LoraConfig(r=2, lora_alpha=8, target_modules=["embed_tokens"], task_type="CAUSAL_LM"),
        "saved": lambda: LoraConfig(
            r=2, target_modules=["q_proj"], modules_to_save=["embed_tokens"], task_type="CAUSAL_LM"
        ),
    }[kind]()
    return get_peft_model(base, settings)


def steps(model, recorder, batches=BATCHES, rate=0.05, optimizer=None):
    """Train on each batch with Adam, and let a recorder see it."""
    model.train()
    trained = [p for p in model.parameters() if p.requires_grad]
    optimizer = optimizer or torch.optim.Adam(trained, lr=rate)
    for batch in batches:
        ids = torch.tensor(batch)
        loss = model(input_ids=ids, labels=ids).loss
        loss.backward()
        recorder.before_step()
        optimizer.step()
        optimizer.zero_grad()
        recorder.after_step(loss)
    return optimizer
