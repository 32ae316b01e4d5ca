"""Every error that Bucketpost raises on purpose.

    GatewayError
    ├── SettingsError            what the operator set cannot work; says what to change
    ├── StartError               the process cannot start here and now
    ├── StoreError
    │   ├── StoreUnavailable     the database cannot be reached, or went away; try again
    │   └── StoreRefused         the database refuses this very data; bisect and quarantine
    ├── SourceError              a source cannot be read; its text becomes the source's last_error
    │   └── AwsError             AWS, or what speaks like it, said no; in app/aws/errors.py, with its code
    └── PushRefused              a push that is not taken, through the sender's own fault
        ├── Unauthorized         it brought no credentials where some are needed
        └── Forged               it is not from whom it says it is

An expected failure of a delivery is an Outcome, not an exception.
"""


class GatewayError(Exception):
    """Something Bucketpost foresaw went wrong."""

    def __init__(self, message: str | None = None) -> None:
        super().__init__(message or self.__doc__)


class SettingsError(GatewayError):
    """A setting cannot work."""


class StartError(GatewayError):
    """The process cannot start."""


class StoreError(GatewayError):
    """The database failed."""


class StoreUnavailable(StoreError):  # noqa: N818 -- names the state, reads well in except
    """The database cannot be reached."""


class StoreRefused(StoreError):  # noqa: N818 -- likewise
    """The database refuses this data."""


class SourceError(GatewayError):
    """The source cannot be read."""


class PushRefused(GatewayError):  # noqa: N818 -- names what happened, reads well in except
    """The push is not taken."""


class Unauthorized(PushRefused):
    """The push brought no credentials."""


class Forged(PushRefused):
    """The push is not from whom it says it is."""
