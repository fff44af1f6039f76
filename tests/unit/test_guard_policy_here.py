"""A policy that is not to be had is refused before a network is started for it."""

from __future__ import annotations

import os
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from ndn_infer import catalog
from ndn_infer import config as configuration
from ndn_infer.cli import main
from ndn_infer.client.policies import policy_in_file
from ndn_infer.config import Config
from ndn_infer.errors import UnknownModel, UsageError
from ndn_infer.guard.policy_form import decode
from ndn_infer.library.joining import WantedNetwork, functions_of_policy, join
from ndn_infer.node import networks
from ndn_infer.node.keys import ensure_keys
from ndn_infer.records.guard import PolicyRecord

RULES = {
    "phrases": ('phrases = ["project nightingale"]', ("guard",)),
    "topics": ('examples = ["poison"]', ("embed", "guard")),
    "classifier": ('model = "forcefield-attacks"\nlabels = ["jailbreak"]', ("classify", "guard")),
}


def here(folder: Path) -> Config:
    return networks.settle(configuration.load(file=Path(os.devnull), flags=[f"paths.data_dir={folder}"]))


def written(folder: Path, kind: str) -> Path:
    file = folder / f"{kind}.toml"
    file.write_text(f'name = "{kind}"\n[[rules]]\nid = "a"\nkind = "{kind}"\n{RULES[kind][0]}\n')
    return file


@pytest.mark.parametrize("kind", RULES)
def test_a_network_offers_what_the_rules_of_its_policy_ask(tmp_path: Path, kind: str) -> None:
    config, file = here(tmp_path), written(tmp_path, kind)
    assert functions_of_policy(config, str(file)) == RULES[kind][1]
    assert functions_of_policy(config, "") == () and functions_of_policy(config, kind) is None
    wire = policy_in_file(file)
    catalog.publish(config.catalog_dir, ensure_keys(config, ()), PolicyRecord(kind, decode(wire).digest, wire))
    assert functions_of_policy(config, kind) == RULES[kind][1]
    assert functions_of_policy(config, decode(wire).digest) == RULES[kind][1]


def test_a_folder_does_not_hide_the_policy_of_that_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "house").mkdir()
    config, wire = here(tmp_path / "data"), policy_in_file(written(tmp_path, "phrases"))
    catalog.publish(config.catalog_dir, ensure_keys(config, ()), PolicyRecord("house", decode(wire).digest, wire))
    assert functions_of_policy(config, "house") == ("guard",)
    for text in ("./house", str(tmp_path)):
        with pytest.raises(UsageError, match="there is no policy file") as refused:
            functions_of_policy(config, text)
        assert refused.value.hint == "it is a folder"


@pytest.mark.parametrize("text", ["~no-such-user-here/p.toml", "n" * 300, "p" * 300 + ".toml", "a\0.toml"])
def test_what_can_be_no_file_is_refused_in_one_line(tmp_path: Path, text: str) -> None:
    with pytest.raises(UsageError):
        functions_of_policy(here(tmp_path), text)


async def test_no_network_is_brought_up_for_a_policy_that_is_not_here(tmp_path: Path) -> None:
    config = here(tmp_path)
    (tmp_path / "folder.toml").mkdir()
    (tmp_path / "text.toml").write_text("no policy")
    missing = [str(tmp_path / name) for name in ("none.toml", "folder.toml", "text.toml", "none")]
    keychain = ensure_keys(config, ())
    for policy in (*missing, "none.toml", "house"):
        async with AsyncExitStack() as ends:
            with pytest.raises(UsageError):
                await join(config, keychain, WantedNetwork("no-such-model", "always", policy=policy), ends)
    async with AsyncExitStack() as ends:  # bringing up comes next
        with pytest.raises(UnknownModel):
            await join(config, keychain, WantedNetwork("no-such-model", "always"), ends)


@pytest.mark.parametrize("command", [("ask", "--embedded", "hello"), ("gateway", "--embedded")])
def test_commands_say_so_in_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], command: tuple[str, ...]
) -> None:
    asked = [*command, "--set", f"paths.data_dir={tmp_path}", "--set", f"ask.policy={tmp_path}/none.toml"]
    assert main(asked) == UsageError.exit_code
    said = capsys.readouterr().err
    assert "cannot read the policy in" in said and "starting" not in said
