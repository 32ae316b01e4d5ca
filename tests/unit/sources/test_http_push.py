"""Stores that push: the token alone vouches for them."""

from datetime import UTC, datetime

import pytest
from pydantic import ValidationError

from app.domain.configuration import PROFILES, Source
from app.domain.errors import Unauthorized
from app.domain.ids import DEFAULT_TENANT, SourceId
from app.domain.message import Pushed
from app.sources import KINDS, PushKind
from app.sources.http_push import HttpConfig, HttpPush
from tests.bed.clocks import machine_time


def push(token: str) -> Pushed:
    """Push something."""
    return Pushed(headers={}, body=b"body", token=token)  # type: ignore[arg-type]  # one of the three


def http_source(**config: str) -> Source:
    """Make a row."""
    now = datetime.now(UTC)
    return Source(
        id=SourceId(bytes(16)),
        tenant_id=DEFAULT_TENANT,
        name="store",
        kind="http",
        config=dict(config),
        created_at=now,
        updated_at=now,
    )


async def test_a_push_with_the_token_is_taken_as_it_is() -> None:
    """Byte for byte, each under a receipt of its own."""
    source = HttpPush.open(http_source(), machine_time)

    first, second = await source.accept(push("right")), await source.accept(push("right"))
    await source.aclose()

    assert first.body == b"body"
    assert first.receipt != second.receipt


@pytest.mark.parametrize("token", ["absent", "wrong"])
async def test_nothing_else_is_taken(token: str) -> None:
    """Nothing in what a store sends is signed."""
    with pytest.raises(Unauthorized):
        await HttpPush.open(http_source(), machine_time).accept(push(token))


def test_a_profile_is_one_of_those_known() -> None:
    """It is `auto` by default."""
    assert HttpConfig.model_validate({}).profile == "auto"
    assert [HttpConfig.model_validate({"profile": each}).profile for each in PROFILES] == list(PROFILES)
    for wrong in ({"profile": "gcs"}, {"profile": None}, {"url": "x"}):
        with pytest.raises(ValidationError):
            HttpConfig.model_validate(wrong)


def test_the_profile_of_a_row_is_what_decoding_is_told() -> None:
    """By way of the source."""
    assert (http_source(profile="minio").profile, http_source().profile) == ("minio", "auto")


def test_the_kind_comes_by_the_road_of_stores() -> None:
    """`/v1/ingest/s3/`."""
    kind = KINDS["http"]
    assert isinstance(kind, PushKind)
    assert (kind.road, kind.config) == ("s3", HttpConfig)
