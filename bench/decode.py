"""Records a CPU-second that are decoded and identified, beside `json.loads` alone on the same bytes, for each shape.

One thread, CPU time, rounds alternate, medians are compared. What is inside an SNS envelope is loaded by the baseline
too. Carry the ratios, not the absolutes.
"""

import argparse
import json
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from app.decode import decode
from app.domain.ids import DEFAULT_TENANT
from tests.bed import s3_messages
from tests.bed.twins import eventbridge_twin

PAYLOADS = Path(__file__).parents[1] / "tests" / "unit" / "decode" / "payloads"
# Bodies of a shape; each is another one, where the shape is made here.
BODIES = 200


@dataclass(frozen=True, slots=True)
class Shape:
    """Bodies of one shape, and how many records they hold together."""

    bodies: Sequence[bytes]
    records: int


def main(*, seconds: float, rounds: int) -> None:
    """Measure and print a line a shape, and one over all."""
    ratios = {}
    for name, shape in _shapes().items():
        rates, bare = _measure(shape, seconds=seconds / rounds, rounds=rounds)
        ratios[name] = rates / bare
        size = statistics.mean(map(len, shape.bodies))
        print(f"{name:24} {size:7,.0f} B  decode {rates:9,.0f}/s  json.loads {bare:9,.0f}/s  ratio {rates / bare:.2f}")
    overall = statistics.geometric_mean(ratios.values())
    print(
        f"records a CPU-second, decoded and identified, as a share of json.loads alone: {overall:.2f} (geometric mean)"
    )


def _shapes() -> Mapping[str, Shape]:
    singles = [s3_messages.record("photos", f"2026/11/24/cat {number}.jpg") for number in range(BODIES)]
    tens = [singles[start : start + 10] for start in range(0, BODIES, 10)]
    texts = {
        "records, one": [s3_messages.message(each) for each in singles],
        "records, ten": [s3_messages.message(*group) for group in tens],
        "SNS, one": [s3_messages.sns_wrapped(s3_messages.message(each)) for each in singles],
        "SNS, ten": [s3_messages.sns_wrapped(s3_messages.message(*group)) for group in tens],
        "EventBridge": [eventbridge_twin(each) for each in singles],
        "MinIO": _kept("minio-object-created"),
        "Ceph": _kept("ceph-object-created"),
        "versitygw": _kept("versitygw-object-created"),
        "R2": _kept("r2-copy-object"),
    }
    return {name: _shape(name, [text.encode() for text in bodies]) for name, bodies in texts.items()}


def _kept(name: str) -> list[str]:
    return [json.dumps(json.loads((PAYLOADS / f"{name}.json").read_bytes()), separators=(",", ":"))] * BODIES


def _shape(name: str, bodies: Sequence[bytes]) -> Shape:
    decoded = [decode(body, tenant_id=DEFAULT_TENANT) for body in bodies]
    if any(each.refusals or not each.events for each in decoded):
        raise SystemExit(f"{name} is not read: {decoded[0].refusals}")
    return Shape(bodies, sum(len(each.events) for each in decoded))


def _measure(shape: Shape, *, seconds: float, rounds: int) -> tuple[float, float]:
    """Give records a CPU-second, decoded and bare: medians over rounds that alternate."""
    both: tuple[list[float], list[float]] = ([], [])
    for _ in range(rounds + 1):
        for rates, work in zip(both, (_decode, _load), strict=True):
            rates.append(_rate(work, shape, seconds=seconds))
    # The first round warms the caches.
    decoded, bare = (statistics.median(rates[1:]) for rates in both)
    return decoded, bare


def _rate(work: Callable[[bytes], Any], shape: Shape, *, seconds: float) -> float:
    done = 0
    started = time.process_time()
    while (spent := time.process_time() - started) < seconds:
        for body in shape.bodies:
            work(body)
        done += shape.records
    return done / spent


def _decode(body: bytes) -> None:
    decode(body, tenant_id=DEFAULT_TENANT)


def _load(body: bytes) -> None:
    value = json.loads(body)
    if "Message" in value:
        json.loads(value["Message"])


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--seconds", type=float, default=1.0, help="CPU-seconds for each shape and side")
    parser.add_argument("--rounds", type=int, default=5, help="rounds counted, after one that is not")
    chosen = parser.parse_args()
    main(seconds=chosen.seconds, rounds=chosen.rounds)
