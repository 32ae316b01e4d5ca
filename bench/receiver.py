"""A webhook receiver that answers 204 and counts; a body of `?` is answered with the figures since the last one."""

import json
import time

from bench.raw_server import NO_CONTENT, json_answer, run

_seen = {"count": 0, "first": 0.0, "last": 0.0}


def _handle(_target: bytes, body: bytes) -> bytes:
    if body == b"?":
        answer = json_answer(json.dumps(_seen).encode())
        _seen.update(count=0, first=0.0, last=0.0)
        return answer
    now = time.monotonic()
    _seen["count"] += 1
    _seen["first"] = _seen["first"] or now
    _seen["last"] = now
    return NO_CONTENT


if __name__ == "__main__":
    run(_handle)
