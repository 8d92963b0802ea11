"""Where a request wants its answer, in whatever properties it comes with."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from stream_detector.mqtt.frames import length_of
from stream_detector.mqtt.requests import LONGEST, ResponseTo, response_to

text = st.text(st.characters(exclude_categories=["Cs", "Cc"], exclude_characters="\0"), max_size=20)
values = st.fixed_dictionaries(
    {},
    optional={
        "PayloadFormatIndicator": st.integers(0, 1),
        "MessageExpiryInterval": st.integers(0, 2**32 - 1),
        "TopicAlias": st.integers(1, 2**16 - 1),
        "ContentType": text,
        "ResponseTopic": text,
        "CorrelationData": st.binary(max_size=300),
        "SubscriptionIdentifier": st.integers(1, 268_435_455),
        "UserProperty": st.tuples(text, text),
    },
)


def packed(said: dict[str, Any]) -> bytes:
    """Return properties as another library writes them, without their length."""
    out: Any = Properties(PacketTypes.PUBLISH)
    for name, value in said.items():
        setattr(out, name, value)
    whole = bytes(out.pack())
    return next(whole[k:] for k in range(1, 5) if length_of(len(whole) - k) == whole[:k])


@given(values)
def test_properties_are_read_as_others_write_them(said: dict[str, Any]) -> None:
    """Whatever else stands among them."""
    topic = said.get("ResponseTopic")
    expected = ResponseTo(topic, said.get("CorrelationData", b"")) if topic else None
    assert response_to(packed(said)) == expected


@given(st.binary(max_size=60))
def test_garbage_is_nothing(properties: bytes) -> None:
    """Whatever the bytes are, they cannot stop us."""
    found = response_to(properties)
    assert found is None or found.topic


@pytest.mark.parametrize(
    "said",
    [
        pytest.param(packed({"ResponseTopic": "a"}) * 2, id="two of them"),
        pytest.param(packed({"ResponseTopic": "a"})[:-1] + b"", id="cut off"),
        pytest.param(packed({"ResponseTopic": "a"}) + b"\x02\0", id="cut off later"),
        pytest.param(packed({"ResponseTopic": "a", "CorrelationData": bytes(LONGEST + 1)}), id="too long"),
        pytest.param(packed({"ResponseTopic": "a/" * 250}), id="too deep for some brokers"),
        pytest.param(b"\x08\0\2\xc3\x28", id="no UTF-8"),
        pytest.param(b"\x11\0\0\0\0", id="not of a message"),
    ],
)
def test_what_is_no_place_for_an_answer(said: bytes) -> None:
    """Is taken for nothing."""
    assert response_to(said) is None
