"""Golden bytes of every record and every kind of name: what is sent today is read tomorrow, and by others.

Run `python -m tests.unit.test_golden` for the lines of what is new, for golden_records.py and golden_names.py. A line
there never changes: a class that gains a field gets another example, `Class.field`, there and in golden_examples.py.
"""

from __future__ import annotations

from typing import Final

import pytest

from ndn_infer import ndn, records
from ndn_infer.namespace import KINDS, Kind
from ndn_infer.records import CallAnswer, GenerateRequest, LookupRequest, Record, TokenizeRequest
from ndn_infer.records.forms import RecordForm
from tests.generate_docs import record_classes
from tests.unit.golden_examples import EXAMPLES
from tests.unit.golden_names import KIND_NAMES
from tests.unit.golden_records import RECORDS

DIGESTS: Final = (
    (TokenizeRequest(text="hi"), "81a474657874a26869"),
    (LookupRequest("q", limit=5), "81a57175657279a171"),
    (GenerateRequest(prompt=(1, 2**32 - 1)), "81a670726f6d7074c40801000000ffffffff"),
    (CallAnswer(), "80"),
)
"""Fields at their default are left out."""
NET: Final = ndn.from_uri("/ndn-infer/local")


def _name(kind: type[Kind]) -> str:
    return kind(*kind.example).to_name(NET).hex()


def test_every_field_of_every_record_stands_in_golden_bytes() -> None:
    assert set(EXAMPLES) == set(RECORDS), "python -m tests.unit.test_golden prints what is missing"
    for cls in record_classes():
        mine = [record for record in EXAMPLES.values() if type(record) is cls]
        assert mine, f"an example of {cls.__name__} is missing"
        for field, default in RecordForm.of(cls).defaults.items():
            assert any(getattr(record, field) != default for record in mine), f"{cls.__name__}.{field} is in none"


@pytest.mark.parametrize("example", EXAMPLES)
def test_a_record_has_the_bytes_that_it_had(example: str) -> None:
    record, wire = EXAMPLES[example], bytes.fromhex(RECORDS[example])
    assert records.encode(record) == wire
    assert records.decode(type(record), wire) == record


@pytest.mark.parametrize(("record", "wire"), DIGESTS, ids=lambda value: type(value).__name__)
def test_fields_at_their_default_take_no_bytes(record: Record, wire: str) -> None:
    assert records.encode(record).hex() == wire


def test_every_kind_of_name_has_golden_bytes() -> None:
    assert {kind.__name__ for kind in KINDS} == set(KIND_NAMES), "python -m tests.unit.test_golden prints them"


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_a_name_has_the_bytes_that_it_had(kind: type[Kind]) -> None:
    assert _name(kind) == KIND_NAMES[kind.__name__]
    parsed = kind.parse(NET, bytes.fromhex(KIND_NAMES[kind.__name__]))
    assert parsed == kind(*kind.example)


def main() -> None:
    """Print what RECORDS and KIND_NAMES lack."""
    made = {example: records.encode(record).hex() for example, record in EXAMPLES.items()}
    made |= {kind.__name__: _name(kind) for kind in KINDS}
    for name, wire in made.items():
        if name not in {**RECORDS, **KIND_NAMES}:
            rows = [wire[start : start + 100] for start in range(0, len(wire), 100)] or [""]
            body = f'"{rows[0]}"' if len(rows) == 1 else "(\n" + "".join(f'        "{row}"\n' for row in rows) + "    )"
            print(f'    "{name}": {body},')


if __name__ == "__main__":
    main()
