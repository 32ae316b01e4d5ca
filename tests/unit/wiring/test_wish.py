"""What an operator may ask for, and how wrong input is told."""

import pytest

from app.domain.errors import SettingsError
from app.wiring.wish import DEFAULT_EVENTS, wish


def test_a_wish_is_completed() -> None:
    """Events may lack S3's prefix; by default all that makes an object appear or vanish is asked for."""
    assert wish("s3://photos", queue="uploads").events == DEFAULT_EVENTS
    assert wish("s3://photos/", queue="uploads", events=["ObjectCreated:Put"]).events == ("s3:ObjectCreated:Put",)
    assert wish("S3://photos", queue="uploads").dead_letter_queue == "uploads-dead"


@pytest.mark.parametrize(
    ("url", "told"),
    [
        ("photos", "write s3://BUCKET"),
        ("s3://", "write s3://BUCKET"),
        ("https://photos.s3.amazonaws.com", "write s3://BUCKET"),
        ("s3://photos/2024/", "--prefix 2024/"),
        ("s3://ph", "3 to 255"),
        ("s3://photos--use1-az4--x-s3", "directory bucket"),
        ("s3://-photos", "cannot be the name"),
    ],
)
def test_a_wrong_bucket_is_told(url: str, told: str) -> None:
    """One sentence says what to write instead."""
    with pytest.raises(SettingsError, match=told):
        wish(url, queue="uploads")


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"queue": "uploads.fifo"}, "FIFO"),
        ({"queue": "https://sqs.eu-west-1.amazonaws.com/1/uploads"}, "not its URL"),
        ({"queue": ""}, "no name of a queue"),
        ({"queue": "q" * 76}, "1 to 75"),
        ({"topic": "told.fifo"}, "FIFO"),
        ({"topic": "arn:aws:sns:eu-west-1:123456789012:told"}, "not its ARN"),
        ({"events": ["s3:ObjectMade:*"]}, "not s3:ObjectMade"),
        ({"events": ["*"]}, r"such as s3:ObjectCreated"),
        ({"events": [""]}, r"such as s3:ObjectCreated"),
        ({"prefix": "images/*"}, "no wildcards"),
        ({"suffix": "*.jpg"}, "no wildcards"),
        ({"prefix": "x" * 1025}, "1024 at most"),
        ({"prefix": "a\nb"}, "cannot be printed"),
        ({"prefix": "a\udcff"}, "UTF-8"),
        ({"prefix": "my photos/"}, r"--prefix 'my\+photos/'"),
        ({"prefix": "date=2024/"}, "'date%3D2024/'"),
        ({"suffix": "ü.jpg"}, "'%C3%BC.jpg'"),
    ],
)
def test_wrong_options_are_told(options: dict[str, str], told: str) -> None:
    """One sentence names the option and what to write instead."""
    with pytest.raises(SettingsError, match=told):
        wish("s3://photos", **{"queue": "uploads", **options})  # type: ignore[arg-type]  # wrong on purpose


def test_filters_are_taken_as_they_are_where_they_are_right() -> None:
    """An encoded filter passes, and so does a raw one for a store that compares raw keys."""
    assert wish("s3://photos", queue="uploads", prefix="my+photos/%C3%BC").prefix == "my+photos/%C3%BC"
    assert wish("s3://photos", queue="uploads", prefix="my photos/ü", encodes_filters=False).prefix == "my photos/ü"
