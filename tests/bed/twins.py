"""EventBridge's form of an S3 record, as Amazon S3 itself sends both of one change.

After its user guide, "EventBridge event message structure": the key is plain, the time has whole seconds, the sequencer
is in lower case without the leading zeros, there is no host id, and the requester is an account.
"""

import json
import uuid
from collections.abc import Mapping
from typing import Any
from urllib.parse import unquote_plus

_REASONS = {
    "ObjectCreated:Put": "PutObject",
    "ObjectCreated:Post": "POST Object",
    "ObjectCreated:Copy": "CopyObject",
    "ObjectCreated:CompleteMultipartUpload": "CompleteMultipartUpload",
    "ObjectRemoved:Delete": "DeleteObject",
    "ObjectRemoved:DeleteMarkerCreated": "DeleteObject",
    "LifecycleExpiration:Delete": "Lifecycle Expiration",
    "LifecycleExpiration:DeleteMarkerCreated": "Lifecycle Expiration",
}


def eventbridge_twin(record: Mapping[str, Any]) -> str:
    """Make the text of EventBridge's event about the change that a record of a creation or a removal tells of."""
    name, bucket, thing = record["eventName"], record["s3"]["bucket"], record["s3"]["object"]
    is_created = name.startswith("ObjectCreated:")
    words = {"size": "size", "eTag": "etag", "versionId": "version-id"}
    detail = {
        "version": "0",
        "bucket": {"name": bucket["name"]},
        "object": {
            "key": unquote_plus(thing["key"]),
            **{words[word]: thing[word] for word in words if word in thing},
            "sequencer": thing["sequencer"].lower().removeprefix("00"),
        },
        "request-id": record["responseElements"]["x-amz-request-id"],
        "requester": "123456789012",
        "source-ip-address": record["requestParameters"]["sourceIPAddress"],
        "reason": _REASONS[name],
    }
    if not is_created:
        is_marker = name.endswith(":DeleteMarkerCreated")
        detail["deletion-type"] = "Delete Marker Created" if is_marker else "Permanently Deleted"
    return json.dumps(
        {
            "version": "0",
            "id": str(uuid.uuid4()),
            "detail-type": "Object Created" if is_created else "Object Deleted",
            "source": "aws.s3",
            "account": "111122223333",
            "time": record["eventTime"][:19] + "Z",
            "region": record["awsRegion"],
            "resources": [bucket["arn"]],
            "detail": detail,
        }
    )
