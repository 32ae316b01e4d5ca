"""Every event name of S3 and of the stores like it, and the kind of change it tells of."""

from typing import Any, get_args

import pytest
from botocore.loaders import Loader

from app.domain.change import canonical_name, change_of
from app.domain.event import Change
from app.domain.matching import KNOWN_EVENTS

AMAZON: dict[str, Change] = {
    "ObjectCreated:Put": "created",
    "ObjectCreated:Post": "created",
    "ObjectCreated:Copy": "created",
    "ObjectCreated:CompleteMultipartUpload": "created",
    "ObjectRemoved:Delete": "removed",
    "ObjectRemoved:DeleteMarkerCreated": "marker_created",
    "ObjectRestore:Post": "restore_started",
    "ObjectRestore:Completed": "restored",
    "ObjectRestore:Delete": "restore_expired",
    "ReducedRedundancyLostObject": "lost",
    "Replication:OperationFailedReplication": "replication",
    "Replication:OperationMissedThreshold": "replication",
    "Replication:OperationReplicatedAfterThreshold": "replication",
    "Replication:OperationNotTracked": "replication",
    "LifecycleTransition": "transitioned",
    "IntelligentTiering": "tiered",
    "LifecycleExpiration:Delete": "removed",
    "LifecycleExpiration:DeleteMarkerCreated": "marker_created",
    "ObjectTagging:Put": "tagged",
    "ObjectTagging:Delete": "untagged",
    "ObjectAcl:Put": "acl_changed",
    "ObjectAnnotation:Put": "annotated",
    "ObjectAnnotation:Delete": "annotation_removed",
    "ObjectRetention:Put": "retention_set",
}
OTHER_STORES: dict[str, Change] = {
    "ObjectAccessed:Get": "accessed",
    "ObjectAccessed:Head": "accessed",
    "ObjectCreated:PutRetention": "retention_set",
    "ObjectCreated:PutLegalHold": "retention_set",
    "ObjectCreated:PutTagging": "tagged",
    "ObjectCreated:DeleteTagging": "untagged",
    "ObjectRemoved:NoOP": "other",
    "ObjectRemoved:DeleteAllVersions": "removed",
    "ObjectRemoved:DeleteObjects": "removed",
    "LifecycleDelMarkerExpiration:Delete": "removed",
    "Replication:OperationCompletedReplication": "replication",
    "ObjectTransition:Failed": "other",
    "ObjectTransition:Complete": "transitioned",
    "Scanner:ManyVersions": "other",
    "Scanner:BigPrefix": "other",
    "BucketCreated:*": "other",
    "BucketRemoved:*": "other",
    "ObjectLifecycle:Expiration:Current": "removed",
    "ObjectLifecycle:Expiration:NonCurrent": "removed",
    "ObjectLifecycle:Expiration:DeleteMarker": "removed",
    "ObjectLifecycle:Expiration:AbortMultipartUpload": "other",
    "ObjectLifecycle:Transition:Current": "transitioned",
    "ObjectLifecycle:Transition:NonCurrent": "transitioned",
    "ObjectSynced:Create": "created",
    "ObjectSynced:Delete": "removed",
    "ObjectSynced:DeletionMarkerCreated": "marker_created",
    "IntelligentTiering:TransitionAccess": "tiered",
    "ObjectFrobnicated:New": "other",
    "ObjectCreated": "other",
    "": "other",
}


def _botocores_names() -> list[str]:
    model: Any = Loader().load_service_model("s3", "service-2")
    return list(model["shapes"]["Event"]["enum"])


BOTOCORES = _botocores_names()


@pytest.mark.parametrize("name", BOTOCORES)
def test_botocores_names_all_tell_a_change(name: str) -> None:
    """Amazon's own list, as installed: a new name fails here until it has a change. A wildcard counts by its family."""
    family = name.removesuffix("*")
    names = [each for each in BOTOCORES if each.startswith(family) and not each.endswith("*")]

    changes = {change_of(each) for each in names}

    assert changes
    assert "other" not in changes


def test_botocores_names_are_the_ones_a_filter_knows() -> None:
    """And those of the table below."""
    names = {canonical_name(name) for name in BOTOCORES}

    assert len(BOTOCORES) >= 31
    assert names == KNOWN_EVENTS - {"*"}


@pytest.mark.parametrize(("name", "change"), [*AMAZON.items(), *OTHER_STORES.items()])
def test_each_name_tells_one_change_with_or_without_s3(name: str, change: Change) -> None:
    """MinIO and some samples write `s3:` before the name."""
    assert change == change_of(name)
    assert change == change_of(f"s3:{name}")


def test_every_name_of_amazons_is_in_the_table() -> None:
    """A filter knows the names that decoding knows: none of them is `other`."""
    assert {name for name in KNOWN_EVENTS if not name.endswith("*")} == AMAZON.keys()


def test_every_change_has_a_name() -> None:
    """No kind of change is out of reach."""
    assert {*AMAZON.values(), *OTHER_STORES.values()} == set(get_args(Change))


def test_the_canonical_name_loses_one_prefix() -> None:
    """Only the one that stores add."""
    assert canonical_name("s3:s3:x") == "s3:x"
