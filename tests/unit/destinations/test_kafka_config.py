"""What the config of a Kafka endpoint may say."""

import pytest
from pydantic import ValidationError

from app.destinations import KINDS
from app.destinations.kafka_config import KafkaConfig


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        ("kafka:9092", "kafka:9092"),
        ("10.0.0.1:9092, b-1.kafka.test:9094", "10.0.0.1:9092,b-1.kafka.test:9094"),
        ("[fd00::1]:9092", "[fd00::1]:9092"),
        ("localhost:80", "localhost:80"),
    ],
)
def test_brokers_are_the_operator_s_choice(given: str, kept: str) -> None:
    """Private addresses and any port."""
    assert KafkaConfig.model_validate({"bootstrap_servers": given, "topic": "t"}).bootstrap_servers == kept


@pytest.mark.parametrize(
    "servers",
    [
        *("", ",", "kafka", "kafka:", ":9092", "kafka:0", "kafka:65536", "kafka:x", "kafka:9092,", "http://kafka:9092"),
        *("ka fka:9092", "kafka:9092\n", "u@kafka:9092", "[::1:9092", "::1:9092", "a..b:9092", "ka\x00fka:9092"),
        *("169.254.169.254:80", "kafka:9092,169.254.169.254:80", "[fd00:ec2::254]:80", "[::ffff:169.254.169.254]:80"),
        *("2852039166:80", "0xa9fea9fe:80", ",".join(["kafka:9092"] * 33)),
    ],
)
def test_what_is_no_broker_is_refused(servers: str) -> None:
    """And metadata services, in every form."""
    with pytest.raises(ValidationError) as caught:
        KafkaConfig.model_validate({"bootstrap_servers": servers, "topic": "t"})

    assert caught.value.errors()[0]["loc"] == ("bootstrap_servers",)


@pytest.mark.parametrize("topic", ["t", "a.b_c-D9", "_mine", "a" * 249, "..."])
def test_topics_have_kafka_s_names(topic: str) -> None:
    """As Kafka itself has them."""
    assert KafkaConfig.model_validate({"bootstrap_servers": "k:1", "topic": topic}).topic == topic


@pytest.mark.parametrize(
    "topic", ["", ".", "..", "__consumer_offsets", "../a", "a/b", "a b", "é", "a" * 250, "a\n", "a\x00"]
)
def test_other_topics_are_refused(topic: str) -> None:
    """Kafka's own included."""
    with pytest.raises(ValidationError) as caught:
        KafkaConfig.model_validate({"bootstrap_servers": "k:1", "topic": topic})

    assert caught.value.errors()[0]["loc"] == ("topic",)


def test_unknown_fields_are_refused_and_nothing_is_hidden() -> None:
    """A Kafka config holds no secret yet."""
    config = {"bootstrap_servers": "k:1", "topic": "t"}

    with pytest.raises(ValidationError, match="Extra inputs"):
        KafkaConfig.model_validate({**config, "acks": 0})
    assert KINDS["kafka"].public_config(config) == config
