"""A ticket onto the hub, against a stand-in that speaks its HTTP interface: what arrives, what is refused, and in which words."""

import json
import re

import numpy as np
import pytest
from huggingface_hub import ModelCard, constants
from safetensors.numpy import load_file, save_file

from helpers.hub import TOKEN, standing_in
from ks_core.audit.card import measured, publication
from ks_core.audit.evidence import gather
from ks_core.audit.inquiry import Audit
from ks_core.commands.program import main
from ks_core.errors import SettingsError
from ks_core.tickets.card_metadata import Publication, check_repository
from ks_core.tickets.ticket import Ticket
from ks_core.tickets.upload import FILES

NAME = "me/my-ticket"


@pytest.fixture
def hub(monkeypatch, tmp_path):
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(
        constants, "HF_HUB_DISABLE_XET", True
    )  # its storage has a protocol of its own; LFS is what is spoken here
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "token"))
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    with standing_in() as found:
        monkeypatch.setenv("HF_ENDPOINT", found.address)
        yield found


@pytest.fixture
def words(tmp_path):
    """What is typed: a pair of which five rows moved."""
    draw = np.random.default_rng(0)
    rows = draw.standard_normal((200, 64)).astype(np.float32)
    moved = rows.copy()
    moved[[3, 7, 20, 40, 41]] += 3
    for name, values in (("base", rows), ("tuned", moved)):
        save_file({"model.embed_tokens.weight": values}, tmp_path / f"{name}.safetensors")
    pair = [str(tmp_path / f"{name}.safetensors") for name in ("base", "tuned")]
    return ["ticket", *pair, str(tmp_path / "out"), "--base-model", "org/base", "--push-to-hub", NAME]


def test_what_arrives_is_what_was_sent(hub, words, tmp_path, capsys):
    assert main([*words, "--license", "mit"]) == 0
    private, files = hub.repositories[NAME]
    assert private and files == {name: (tmp_path / "out" / name).read_bytes() for name in FILES}
    arrived = tmp_path / "arrived"
    arrived.mkdir()
    for name, content in files.items():
        (arrived / name).write_bytes(content)
    ticket = Ticket.load(arrived)
    assert sorted(ticket.token_ids) == [3, 7, 20, 40, 41] and ticket.base == "org/base"
    (rows,) = load_file(arrived / "adapter_model.safetensors").values()
    np.testing.assert_array_equal(rows, ticket.rows)
    said = capsys.readouterr()
    assert f"sent, as me: {hub.address}/{NAME}/commit/" in said.out and TOKEN not in said.out + said.err
    for content in files.values():  # where it lay on this machine is nobody's business
        assert str(tmp_path).encode() not in content
    card = ModelCard(files["README.md"].decode()).data
    assert (card.base_model, card.library_name, card.license, card.pipeline_tag) == (
        "org/base",
        "peft",
        "mit",
        "text-generation",
    )
    assert f'PeftModel.from_pretrained(base, "{NAME}")' in files["README.md"].decode()
    assert "nothing of this ticket was audited" in files["README.md"].decode()


def test_sent_again_it_is_the_same_repository(hub, words, tmp_path):
    assert main(words) == 0
    hub.asked.clear()
    assert main(words) == 0
    assert ("POST", "/api/repos/create") not in hub.asked and set(hub.repositories) == {NAME}


def test_another_ticket_in_the_folder_is_left_alone(hub, words, tmp_path, capsys):
    assert main(words) == 0
    before = (tmp_path / "out" / "README.md").read_bytes()
    hub.asked.clear()
    assert main([*words, "--rule", "count", "--k", "2"]) == 2
    assert "holds another ticket" in capsys.readouterr().err
    assert not hub.asked and (tmp_path / "out" / "README.md").read_bytes() == before


def test_public_is_what_is_wished(hub, words, capsys):
    assert main([*words, "--public"]) == 0
    assert not hub.repositories[NAME][0]
    sent = dict(hub.repositories[NAME][1])
    hub.repositories[NAME][1]["README.md"] = b"changed"
    assert main(words) == 2
    assert "open to all, and nothing was sent" in capsys.readouterr().err
    assert hub.repositories[NAME][1]["README.md"] == b"changed"
    assert main([*words, "--public"]) == 0 and hub.repositories[NAME][1] == sent


def test_what_is_no_tickets_repository_is_not_written_to(hub, words, capsys):
    hub.repositories[NAME] = (True, {"model.safetensors": b"a model", "README.md": b"its card"})
    assert main(words) == 2
    assert "it is no ticket's" in capsys.readouterr().err
    assert set(hub.repositories[NAME][1]) == {"model.safetensors", "README.md"}


def test_a_dry_run_says_what_would_be_sent_and_asks_nobody(hub, words, tmp_path, monkeypatch, capsys):
    monkeypatch.delenv("HF_TOKEN")
    assert main([*words, "--dry-run"]) == 0
    said = capsys.readouterr().out
    assert not hub.asked and "nothing was sent" in said and "private" in said
    for name in FILES:
        assert f"  {name}  {(tmp_path / 'out' / name).stat().st_size:,} bytes" in said
    assert 'base_model: "org/base"' in said and "names no licence" in said


def test_without_a_token_nobody_is_asked(hub, words, tmp_path, monkeypatch, capsys):
    monkeypatch.delenv("HF_TOKEN")
    assert main(words) == 2
    said = capsys.readouterr().err
    assert "no token" in said and "HF_TOKEN" in said and "--dry-run" in said
    assert not hub.asked and not (tmp_path / "out").exists()
    (tmp_path / "token").write_text(f"{TOKEN}\n")  # as `hf auth login` leaves it
    assert main(words) == 0 and NAME in hub.repositories


@pytest.mark.parametrize(("path", "number", "said"), [
    ("/whoami", 401, "does not know the token (401)"), ("/whoami", 500, "in trouble (500)"), ("/repos/create", 403, "may not write there (403)"),
    ("/repos/create", 409, "at the same moment (409)"), ("/commit/", 409, "at the same moment (409)"), ("/commit/", 403, "may not write there"),
    ("/commit/", 500, "in trouble (500)"), ("/preupload/", 401, "does not know the token"), ("/preupload/", 404, "no such repository"),
])  # fmt: skip
def test_a_refusal_is_a_sentence(hub, words, path, number, said, capsys):
    hub.fails[path] = number
    assert main(words) == 2
    told = capsys.readouterr().err
    assert said in told and told.count("\n") == 1 and "Traceback" not in told and TOKEN not in told
    assert not hub.repositories.get(NAME, (True, {}))[1], "nothing has arrived"


def test_a_wrong_token_and_nobody_there(hub, words, monkeypatch, capsys):
    monkeypatch.setenv("HF_TOKEN", "hf_ofsomebodyelse000")
    assert main(words) == 2
    told = capsys.readouterr().err
    assert "does not know the token (401)" in told and "hf_of" not in told
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    assert main(words) == 2
    assert "the hub does not answer" in capsys.readouterr().err
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert main(words) == 2
    assert "HF_HUB_OFFLINE" in capsys.readouterr().err


@pytest.mark.parametrize(
    "name", ["", "alone", "a/b/c", "../b", "a/../b", "a/b--c", "-a/b", "a/b.git", "ä/b", "a/b c", f"a/{'b' * 96}"]
)
def test_names_that_no_repository_has(name, words, capsys):
    with pytest.raises(SettingsError, match="no repository's name"):
        check_repository(name)
    if name and not name.startswith("-"):
        words[-1] = name
        assert main(words) == 2 and "no repository's name" in capsys.readouterr().err


def test_what_the_hub_would_not_take(words, capsys):
    with pytest.raises(SettingsError, match="licence"):
        Publication(NAME, "org/base", "Apache License, Version 2.0")
    assert main([*words[:4], *words[6:]]) == 2
    assert "--base-model" in capsys.readouterr().err
    assert main([*words[:4], "--dry-run"]) == 2
    assert "Expected --push-to-hub" in capsys.readouterr().err


def test_the_card_says_what_the_audit_found(evidence, tmp_path, capsys):
    """Of the demo: everything that was found, what counts against it first, and the numbers as the hub reads them."""
    out = tmp_path / "out"
    assert main(["ticket", "demo:base", "demo:en-fr", str(out), "--push-to-hub", NAME, "--dry-run"]) == 0
    card = ModelCard((out / "README.md").read_text(encoding="utf-8"))
    data, audit = card.data, Audit()
    found = gather(audit, audit.study.scan())
    more = publication(audit, found, NAME)
    assert (data.base_model, data.license, data.language) == (
        "HuggingFaceTB/SmolLM2-135M-Instruct",
        "apache-2.0",
        ["en", "fr"],
    )
    assert data.pipeline_tag == "translation" and data.library_name == "peft" and "ks-lottery" in data.tags
    results = {one.metric_name: one.metric_value for one in data.eval_results}
    assert (
        results == {one.name: pytest.approx(one.value, abs=1e-4) for one in measured(found.run.result["arms"])}
        and results
    )
    assert all(re.search(r" \[[\d.]+, [\d.]+\] \(base: ", name) for name in results), "no number without its interval"
    plain = re.sub(r"\\(.)", r"\1", card.content)
    said = [f.sentence for f in found.findings]
    at = [plain.index(" ".join(one.split())) for one in (*found.doubts, *said, str(audit.signature))]
    assert found.doubts and len(said) > 5 and at == sorted(at)
    assert all(one in plain for one in more.missing) and "Before you believe it" not in plain
    assert "tie_word_embeddings=False" in plain, "the hub's base is tied, the demo's is not"
    assert json.loads((out / "adapter_config.json").read_text())["base_model_name_or_path"] == data.base_model
