"""What of a path may be logged."""

import pytest

from app.api.last_resort import loggable

SOURCE = "/v1/ingest/s3/src_" + "a" * 26


@pytest.mark.parametrize(
    ("path", "shown"),
    [
        ("/v1/sources/src_x", "/v1/sources/src_x"),
        (SOURCE, SOURCE),
        (f"{SOURCE}/", f"{SOURCE}/***"),
        (f"{SOURCE}/token", f"{SOURCE}/***"),
        (f"{SOURCE}/token/", f"{SOURCE}/***"),
        (SOURCE.replace("s3", "sns") + "/token/more", SOURCE.replace("s3", "sns") + "/***"),
        (f"/v1/ingest/s3//{'a' * 26}/token", "/***"),
        (f"/V1/Ingest/s3/src_{'a' * 26}/token", "/***"),
        (f"/prefix{SOURCE}/token", "/***"),
        (f"{SOURCE}x/token", "/***"),
        ("/v1/ingest/token", "/***"),
    ],
)
def test_what_may_be_a_token_is_not_shown(path: str, shown: str) -> None:
    """Under any spelling; the source is, where it is plainly one."""
    assert loggable(path) == shown
