"""`ndn-infer testbed run SCENARIO --virtual`: one play or many, and what is printed.

Owns: the result file and the exit status. Must not know: how a scenario is played.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from ndn_infer.errors import Timeout, UsageError
from ndn_infer.testbed import result
from ndn_infer.testbed.result import report
from ndn_infer.testbed.runner import FAILED, revision
from ndn_infer.testbed.virtual.play import Play, play


def run_and_tell(what: Play, *, seeds: int, as_json: bool, out: Path | None) -> int:
    """Play it, or `seeds` plays from its seed on. Exit status: 0 only if every claim of every play holds. Raises
    Timeout, UsageError."""
    what = replace(what, commit=revision())
    if seeds > 1:
        return _sweep(what, seeds, as_json=as_json)
    found, tables = play(what)
    text = result.dumps(found)
    if out is not None:
        try:
            out.mkdir(parents=True, exist_ok=True)
            (out / f"{what.scenario.name}.json").write_text(text + "\n", "utf-8")
        except OSError as error:
            raise UsageError(f"cannot write to {out}: {error.strerror}") from error
    print(text if as_json else "\n".join([*tables, *report(found)]), flush=True)
    return 0 if found["holds"] else FAILED


def _sweep(what: Play, seeds: int, *, as_json: bool) -> int:
    """A line for every seed that does not hold, as soon as it is known; or a document for each seed, a line each."""
    failing = []
    for seed in range(what.seed, what.seed + seeds):
        try:
            found, _ = play(replace(what, seed=seed))
            broken = [f"{row['claim']} ({row['value']})" for row in found["claims"] if not row["holds"]]
        except Timeout as error:
            found, broken = None, [str(error)]
        if broken:
            failing.append(seed)
        if as_json and found is not None:
            print(result.dumps(found), flush=True)
        elif broken:
            print(f"seed {seed}: {'; '.join(broken)}", flush=True)
    if not as_json:
        print(f"{what.scenario.name}: {seeds - len(failing)} of {seeds} seeds hold", flush=True)
    return FAILED if failing else 0
