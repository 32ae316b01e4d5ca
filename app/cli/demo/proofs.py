"""The five proofs. Each does one thing to the world, waits for what was promised, and says when it did not come."""

import signal
from functools import partial
from typing import Any

from app.cli.demo.receiver import Heard
from app.cli.demo.screen import Screen
from app.cli.demo.world import BUCKET, World


class Proofs:
    """Runs the proofs in order and keeps count."""

    def __init__(self, world: World, screen: Screen) -> None:
        """Take a world that is open."""
        self._world = world
        self._screen = screen
        self._wrongs = 0
        self._notifications = 0
        self._uploads: list[str] = []

    async def run(self) -> bool:
        """Run all; True when every promise held."""
        await self._endpoint("/hook", {"buckets": [BUCKET], "key_prefix": "photos/"}, [0.5, 1.0, 1.0])
        await self._one_upload_one_webhook()
        await self._said_twice_heard_once()
        await self._ill_then_well()
        await self._killed_between_storing_and_sending()
        await self._hopeless_then_back()
        return await self._add_up()

    async def _one_upload_one_webhook(self) -> None:
        self._screen.heading(1, "One upload, one webhook")
        await self._upload("photos/cat.jpg", bytes(48_213))
        await self._tell_stored("photos/cat.jpg")
        await self._tell_answers("photos/cat.jpg", 1)

    async def _said_twice_heard_once(self) -> None:
        self._screen.heading(2, "S3 says it twice (it delivers at least once)")
        event = await self._event("photos/cat.jpg")
        await self._world.say_again(await self._world.read(f"/v1/events/{event['id']}/record"))
        self._notifications += 1
        self._screen.line("received", "the same notification again")
        came = await self._world.until(self._duplicate_was_dropped)
        times = len(self._world.receiver.heard("photos/cat.jpg"))
        self._check(is_right=came and times == 1, text=f"the receiver heard the upload {times} times, not once")
        if came:
            self._screen.line("dropped", f"duplicate of {event['id']}, nothing sent")

    async def _ill_then_well(self) -> None:
        self._screen.heading(3, "The receiver is ill: 503, 503, then well")
        self._world.receiver.answer("/hook", 503, 503)
        await self._upload("photos/dog.jpg", b"dog")
        await self._tell_stored("photos/dog.jpg")
        heard = await self._tell_answers("photos/dog.jpg", 3)
        answers, ids = [each.answered for each in heard], {each.webhook_id for each in heard}
        if self._check(
            is_right=answers == [503, 503, 204] and len(ids) == 1,
            text=f"{answers} under {len(ids)} webhook-ids, not 503, 503, 204 under one",
        ):
            self._screen.line("kept", "the same webhook-id all three times")

    async def _killed_between_storing_and_sending(self) -> None:
        self._screen.heading(4, "The gateway is killed between storing and sending (kill -9), then started again")
        await self._world.stop_gateway()
        number = await self._world.start_gateway(only="api,ingest")
        await self._upload("photos/owl.jpg", b"owl")
        await self._tell_stored("photos/owl.jpg")
        is_unsent = not self._world.receiver.heard("photos/owl.jpg")
        self._screen.line("kept", "not sent: no relay runs")
        await self._world.stop_gateway(signal.SIGKILL)
        self._screen.line("killed", f"gateway {number}")
        number = await self._world.start_gateway()
        self._screen.line("started", f"gateway {number}, one delivery waiting in the outbox")
        heard = await self._tell_answers("photos/owl.jpg", 1)
        self._check(is_right=is_unsent and len(heard) == 1, text=f"heard {len(heard)} times after the kill, not once")

    async def _hopeless_then_back(self) -> None:
        self._screen.heading(5, "A hopeless receiver ends in the dead letters, and comes back on request")
        self._world.receiver.answer_always("/hopeless", 500)
        endpoint = await self._endpoint("/hopeless", {"buckets": [BUCKET], "key_prefix": "hopeless/"}, [0.2, 0.2])
        await self._upload("hopeless/case.txt", b"?")
        await self._tell_stored("hopeless/case.txt")
        await self._tell_answers("hopeless/case.txt", 3)
        dead = f"/v1/deliveries?status=dead&endpoint_id={endpoint['id']}"
        await self._world.until(lambda: self._finds(dead))
        deliveries = (await self._world.call("GET", dead))["data"]
        if not self._check(is_right=len(deliveries) == 1, text="the delivery did not end in the dead letters"):
            return
        tries = len(self._world.receiver.heard("hopeless/case.txt"))
        self._screen.line("dead", f"{deliveries[0]['id']}  {deliveries[0]['reason']} after {tries} tries: 500")
        self._world.receiver.answer_always("/hopeless", None)
        await self._world.call("POST", f"/v1/deliveries/{deliveries[0]['id']}/retry")
        self._screen.line("retried", "on request")
        heard = await self._tell_answers("hopeless/case.txt", tries + 1, already=tries)
        self._check(
            is_right=len({each.webhook_id for each in heard}) == 1, text="the retry came under another webhook-id"
        )

    async def _add_up(self) -> bool:
        await self._world.until(lambda: self._finds_none("/v1/deliveries?status=pending"))
        events = (await self._world.call("GET", "/v1/events?limit=500"))["data"]
        delivered = (await self._world.call("GET", "/v1/deliveries?status=delivered&limit=500"))["data"]
        journal = self._world.receiver.journal
        successes = [each.webhook_id for each in journal if each.answered < 300]  # noqa: PLR2004 -- success
        figures = {
            "notifications": self._notifications,
            "events": len(events),
            "duplicates dropped": self._notifications - len(events),
            "delivered": len(delivered),
            "lost": len(self._uploads) - len({each.key for each in journal if each.webhook_id in set(successes)}),
            "sent twice": len(successes) - len(set(successes)),
            "bad signatures": sum(not each.is_signed for each in journal),
        }
        self._screen.figures(figures)
        uploads = len(self._uploads)
        wanted = dict(zip(figures, (uploads + 1, uploads, 1, uploads, 0, 0, 0), strict=True))
        for name, value in figures.items():
            self._check(is_right=value == wanted[name], text=f"{name} is {value}, not {wanted[name]}")
        return self._wrongs == 0

    # The steps

    async def _endpoint(self, path: str, wanted: dict[str, Any], schedule: list[float]) -> dict[str, Any]:
        endpoint: dict[str, Any] = await self._world.call(
            "POST",
            "/v1/endpoints",
            {
                "name": path,
                "kind": "webhook",
                "config": {"url": self._world.receiver.url + path},
                "retry": {"schedule_seconds": schedule},
            },
        )
        self._world.receiver.secrets[path] = endpoint["secret"]
        subscription = {"name": path, "endpoint_id": endpoint["id"], "filter": wanted}
        await self._world.call("POST", "/v1/subscriptions", subscription)
        return endpoint

    async def _upload(self, key: str, body: bytes) -> None:
        await self._world.put(key, body)
        self._uploads.append(key)
        self._notifications += 1
        self._screen.line("put", f"s3://{BUCKET}/{key}  {len(body):,} bytes")

    async def _tell_stored(self, key: str) -> None:
        """Wait until an upload is written down, and say so."""
        came = await self._world.until(lambda: self._is_recorded(key))
        if self._check(is_right=came, text=f"{key} was not written down in time"):
            event = await self._event(key)
            self._screen.line("stored", f"{event['id']}  {event['type']}")

    async def _tell_answers(self, key: str, count: int, *, already: int = 0) -> list[Heard]:
        """Wait for so many requests about an upload, and tell of each as it comes."""
        receiver = self._world.receiver
        for number in range(already + 1, count + 1):
            came = await receiver.wait(partial(self._has_heard, key, number))
            if not self._check(is_right=came, text=f"request #{number} about {key} did not come in time"):
                break
            heard = receiver.heard(key)[number - 1]
            is_success = heard.answered < 300  # noqa: PLR2004 -- success
            signature = "signature ok" if heard.is_signed else "SIGNATURE WRONG"
            self._screen.line("delivered" if is_success else "failed", f"#{number}  {heard.answered}  {signature}")
        return receiver.heard(key)

    def _has_heard(self, key: str, count: int) -> bool:
        return len(self._world.receiver.heard(key)) >= count

    async def _event(self, key: str) -> dict[str, Any]:
        events = (await self._world.call("GET", f"/v1/events?bucket={BUCKET}&key_prefix={key}"))["data"]
        return events[0] if events else {"id": "nothing", "type": "nothing"}

    async def _is_recorded(self, key: str) -> bool:
        return await self._finds(f"/v1/events?bucket={BUCKET}&key_prefix={key}")

    async def _finds(self, path: str) -> bool:
        return bool((await self._world.call("GET", path))["data"])

    async def _finds_none(self, path: str) -> bool:
        return not await self._finds(path)

    async def _duplicate_was_dropped(self) -> bool:
        return await self._world.metric("bucketpost_events_total", result="duplicate") >= 1

    def _check(self, *, is_right: bool, text: str) -> bool:
        if not is_right:
            self._wrongs += 1
            self._screen.wrong(text)
        return is_right
