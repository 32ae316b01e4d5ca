"""A decoder of a language made for tests: words with spaces between, each of them one event or one refusal.

`e7` is event 7. `n7` is event 7 in words that only a newer decoder knows. `d7` is another, which the database refuses.
What begins otherwise is refused for ever. An empty message says nothing.
"""

from dataclasses import dataclass, field

from app.domain.configuration import Profile
from app.domain.event import Event
from app.domain.ids import EventId, TenantId
from app.domain.message import Decoded, Refusal
from tests.bed.stored import changed, make_event


@dataclass(slots=True, kw_only=True)
class Words:
    """Decodes; remembers under which profiles it was asked."""

    is_new: bool = False
    profiles: list[Profile] = field(default_factory=list)

    def __call__(self, body: bytes, *, tenant_id: TenantId, profile: Profile = "auto") -> Decoded:
        """Read a message, as app.decode.decode does."""
        assert tenant_id > 0
        self.profiles.append(profile)
        events: list[Event] = []
        refusals: list[Refusal] = []
        for word in body.split():
            if self.knows(word):
                events.append(event_of(word))
            else:
                refusals.append(Refusal(reason=self.reason(word), raw=word))
        return Decoded(events=tuple(events), refusals=tuple(refusals))

    def knows(self, word: bytes) -> bool:
        """Tell whether a word is an event."""
        return word[:1] in (b"e", b"d") or (self.is_new and word[:1] == b"n")

    def reason(self, word: bytes) -> str:
        """Say why a word is refused; a newer version says it in other words."""
        return f"The {'newer' if self.is_new else 'older'} version does not know {word.decode('ascii', 'replace')}."


def event_of(word: bytes) -> Event:
    """Give the event that a word tells of, whoever understands it."""
    number = int(word[1:])
    if word[:1] == b"d":
        return changed(make_event(1000 + number), record=word, size=2**70)
    return changed(make_event(number), record=word)


def event_id_of(word: bytes) -> EventId:
    """Give the id of a word's event."""
    return event_of(word).id
