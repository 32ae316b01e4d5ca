"""An SQS that hands out ten events a receive, as many as it was told; deletes succeed at once.

moto walks its whole queue for each receive, so it is no peer for a measurement. A body of `+N` adds N messages.
"""

import hashlib
import itertools
import json
import time

from bench.raw_server import json_answer, run

_numbers = itertools.count(int(time.time()) << 24)
_state = {"left": 0}
ENDPOINTS = 10


def _body() -> str:
    number = next(_numbers)
    thing = {"key": f"{number % ENDPOINTS}/{number}.jpg", "size": 48213, "eTag": "2e3ad1e983318bbd8e73b080e2997980"}
    record = {
        "eventVersion": "2.1",
        "eventSource": "aws:s3",
        "awsRegion": "us-east-1",
        "eventTime": time.strftime("%Y-%m-%dT%H:%M:%S.000Z", time.gmtime()),
        "eventName": "ObjectCreated:Put",
        "userIdentity": {"principalId": "A1YQ72UWCM96UF"},
        "requestParameters": {"sourceIPAddress": "93.108.161.96"},
        "responseElements": {"x-amz-request-id": f"{number:016X}", "x-amz-id-2": "6ASrUfj5xpn859fIq+6FXflOex"},
        "s3": {
            "s3SchemaVersion": "1.0",
            "configurationId": "bench",
            "bucket": {
                "name": "bench",
                "ownerIdentity": {"principalId": "A1YQ72UWCM96UF"},
                "arn": "arn:aws:s3:::bench",
            },
            "object": {**thing, "sequencer": f"00{int(time.time()):08X}{number & 0xFFFFFFFF:08X}"},
        },
    }
    return json.dumps({"Records": [record]}, separators=(",", ":"))


def _receive() -> bytes:
    count = min(10, _state["left"])
    _state["left"] -= count
    messages = []
    for _ in range(count):
        body = _body()
        digest = hashlib.md5(body.encode(), usedforsecurity=False).hexdigest()
        name = digest[:16]
        messages.append({"MessageId": name, "ReceiptHandle": name, "MD5OfBody": digest, "Body": body})
    return json_answer(json.dumps({"Messages": messages}).encode())


def _handle(target: bytes, body: bytes) -> bytes:
    if target.endswith(b"ReceiveMessage"):
        return _receive()
    if target.endswith(b"Batch"):
        entries = [{"Id": entry["Id"]} for entry in json.loads(body)["Entries"]]
        return json_answer(json.dumps({"Successful": entries, "Failed": []}).encode())
    if body.startswith(b"+"):
        _state["left"] += int(body[1:])
    return json_answer(b"{}")


if __name__ == "__main__":
    run(_handle)
