"""What nfdc prints, as numbers."""

from __future__ import annotations

import pytest

from ndn_infer.testbed import nfdc_text
from tests.unit.minindn.stand_in import CS_INFO, FACES, ROUTES


def test_nfdc_content_store() -> None:
    assert nfdc_text.content_store(CS_INFO) == (84, 14, 205)
    with pytest.raises(ValueError, match="no 'nfdc cs info'"):
        nfdc_text.content_store("ERROR: error while connecting to the forwarder")


def test_nfdc_faces_are_those_of_the_neighbours() -> None:
    found = nfdc_text.faces(FACES, {"10.0.0.2": "core"})
    assert found == {"core": {"in_interests": 0, "in_data": 14, "out_interests": 17, "out_data": 1}}


def test_nfdc_faces_to_one_neighbour_add_up() -> None:
    found = nfdc_text.faces(FACES, {"10.0.0.2": "core", "10.0.0.20": "core"})
    assert found["core"] == {"in_interests": 5, "in_data": 19, "out_interests": 22, "out_data": 6}


def test_nfdc_routes_that_applications_registered() -> None:
    assert nfdc_text.registered(ROUTES, "/ndn-infer/testbed") == [
        "/ndn-infer/testbed/KEY",
        "/ndn-infer/testbed/lab/core/decode",
    ]
