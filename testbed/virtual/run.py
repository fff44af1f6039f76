"""`ndn-infer testbed run SCENARIO --virtual`: one play, and what is printed of it.

Owns: the result file and the exit status. Must not know: how a scenario is played.
"""

from __future__ import annotations

from pathlib import Path

from ndn_infer.errors import UsageError
from ndn_infer.testbed import result
from ndn_infer.testbed.runner import FAILED, report, revision
from ndn_infer.testbed.scenario import Scenario
from ndn_infer.testbed.topology import Topology
from ndn_infer.testbed.virtual.play import Play, play


def run_and_tell(
    scenario: Scenario, topology: Topology, *, seed: int, settings: tuple[str, ...], limit_s: float, as_json: bool,
    out: Path | None,
) -> int:  # fmt: skip
    """Exit status: 0 only if every claim holds. Raises Timeout, UsageError."""
    found, tables = play(Play(scenario, seed, topology, settings, limit_s=limit_s, commit=revision()))
    text = result.dumps(found)
    if out is not None:
        try:
            out.mkdir(parents=True, exist_ok=True)
            (out / f"{scenario.name}.json").write_text(text + "\n", "utf-8")
        except OSError as error:
            raise UsageError(f"cannot write to {out}: {error.strerror}") from error
    print(text if as_json else "\n".join([*tables, *report(found)]), flush=True)
    return 0 if found["holds"] else FAILED
