"""From flags to a suite: files of items, generators, short words.

Owns: what flags say about a suite. Must not know: how it is asked.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final

from ndn_infer.apps.question import sampling_given
from ndn_infer.config import Config
from ndn_infer.errors import BadRecord, NdnInferError, StorageError, UsageError
from ndn_infer.evidence.live.evaluations import score_in, suite_in, vouch_suite
from ndn_infer.evidence.live.shelf import SUITE, Shelf, topic_of
from ndn_infer.evidence.live.shipped import GYM, GYM_SYSTEM, from_generator, generator_of, of_digest, shipped
from ndn_infer.evidence.live.vouched import Vouched
from ndn_infer.evidence.scorers import VERSIONS, Scorer
from ndn_infer.evidence.suite import MAX_ITEMS, MAX_SUITE_BYTES, Suite, items_of_lines
from ndn_infer.library.parameters import sampling_of
from ndn_infer.node.keys import USER, role_identity
from ndn_infer.records import Sampling

GENERATED_TOKENS: Final = 96
LOOKED_AT: Final = 100
"""Suites of this machine among which one that is signed already is looked for."""


async def suite_of(options: argparse.Namespace, config: Config, shelf: Shelf, word: str) -> tuple[Suite, Vouched]:
    """The suite that a user calls so, and its signed record: theirs, or one of ours. Raises UsageError, BadRecord."""
    ours = shipped(word)
    if ours is None and word.startswith(f"{GYM}:"):
        ours = await _generated(options, config, word)
    if ours is None:
        record = (await shelf.find(word, SUITE))[0]
        return suite_in(record), record
    return ours, await signed_here(shelf, config, ours)


async def suite_of_score(options: argparse.Namespace, config: Config, shelf: Shelf, there: Sequence[Vouched]) -> Suite:
    """The suite of a score, which is the first record of `there`: given by hand, beside it in its file, one that ships,
    or by its name. Raises UsageError, and as Shelf.find."""
    if options.suite:
        return (await suite_of(options, config, shelf, options.suite))[0]
    score = score_in(there[0])
    beside = [suite_in(record) for record in there[1:] if topic_of(record) == SUITE]
    found = next((suite for suite in beside if suite.digest == score.suite), of_digest(score.suite))
    if found is not None:
        return found
    if not score.suite_name:
        raise UsageError(f"the score names no record of its suite {score.suite_label}", hint="give it: --suite NAME")
    return suite_in((await shelf.find(score.suite_name, SUITE))[0])


async def signed_here(shelf: Shelf, config: Config, suite: Suite) -> Vouched:
    """Signed with this machine's own key: the record that there is, or a new one. Raises MissingKey."""
    keychain = shelf.keychain
    signer = keychain.signer_for(role_identity(config, USER))
    for path in shelf.files(SUITE)[:LOOKED_AT]:
        with suppress(NdnInferError):
            record = (await shelf.read(path, SUITE))[0]
            if record.signer == signer.identity and suite_in(record).digest == suite.digest:
                return record
    return vouch_suite(keychain.net, signer, suite)


async def made_suite(options: argparse.Namespace, config: Config) -> Suite:
    """The suite that the flags of `make` describe. Raises UsageError, BadRecord, StorageError."""
    if bool(options.items) == bool(options.generator):
        raise UsageError("a suite has items or a generator", hint="--items FILE, or --generator reasoning-gym:NAME")
    if options.generator:
        return await _generated(options, config, options.generator)
    scorer = Scorer(options.scorer, VERSIONS[options.scorer], pairs(options.option))
    name = options.name or options.items.stem[:64]
    items = items_of_lines(_text(options.items))
    suite = Suite(name, scorer, _sampling(options, config, 64), items, system=options.system or "")
    suite.check()
    return suite


async def _generated(options: argparse.Namespace, config: Config, word: str) -> Suite:
    if not 1 <= options.count <= MAX_ITEMS or not 0 <= options.item_seed < 1 << 63:
        raise UsageError(f"--count is 1 to {MAX_ITEMS}, --item-seed 0 to 2^63 - 1")
    wanted = generator_of(word, options.item_seed, options.count, pairs(options.generate))
    sampling = _sampling(options, config, GENERATED_TOKENS)
    system = GYM_SYSTEM if options.system is None else options.system
    return await from_generator(wanted, sampling, name=options.name, system=system)


def _sampling(options: argparse.Namespace, config: Config, max_tokens: int) -> Sampling:
    given = dict(sampling_given(options, config))
    return sampling_of(config, {"max_tokens": max_tokens, **given})


def pairs(given: list[str]) -> dict[str, str | int | float | bool]:
    """KEY=VALUE, the value as JSON where it is JSON. Raises UsageError."""
    found: dict[str, str | int | float | bool] = {}
    for text in given:
        key, equals, value = text.partition("=")
        if not equals or not key:
            raise UsageError(f"{text!r} is not KEY=VALUE")
        try:
            parsed = json.loads(value)
        except ValueError:
            parsed = value
        found[key] = parsed if isinstance(parsed, str | int | float | bool) else value
    return found


def _text(path: Path) -> str:
    """Raises StorageError, BadRecord for what is too long or no UTF-8."""
    try:
        with path.open("rb") as file:
            content = file.read(MAX_SUITE_BYTES + 1)
        if len(content) > MAX_SUITE_BYTES:
            raise BadRecord(f"{path} has more than {MAX_SUITE_BYTES} bytes")
        return content.decode("utf-8")
    except UnicodeDecodeError as error:
        raise BadRecord(f"{path} is not UTF-8 (byte {error.start + 1})") from error
    except OSError as error:
        raise StorageError(f"cannot read {path}: {error.strerror}") from error
