"""The guards of the gateway, each with the change that takes it away and the tests that must then fail.

A change is text put in the place of other text, which stands exactly once in its file: a guard that moves, or is
written otherwise, takes its place here with it.
"""

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True, kw_only=True)
class Guard:
    """One guard: without it, every one of `missed_by` fails."""

    name: str
    file: str
    text: str
    without: str
    missed_by: tuple[str, ...]


_OUTBOX: Final = "tests/contract/test_outbox.py"
_RETRY: Final = "tests/contract/test_retry_and_settle.py"
_IN_ORDER: Final = "tests/contract/test_in_order.py"
_PARKING: Final = "tests/contract/test_parking.py"
_RELAY: Final = "tests/unit/relay"
_FORGERIES: Final = "tests/unit/sources/test_sns_forgeries.py"

GUARDS: Final[tuple[Guard, ...]] = (
    Guard(
        name="a retry or a death counts only under a good lease",
        file="app/store/settle.py",
        text="fenced = [each for each in settlements if (each.lease.lane_id, each.lease.fence) in held]",
        without="fenced = list(settlements)",
        missed_by=(
            f"{_OUTBOX}::TestSettle::test_a_replica_that_lost_its_lane_may_only_tell_of_successes[sqlite]",
            f"{_OUTBOX}::TestSettle::test_a_replica_that_lost_its_lane_may_only_tell_of_successes[postgresql]",
        ),
    ),
    Guard(
        name="a retry is written once however often it is settled",
        file="app/store/settle.py",
        text="rows = [row for row in found if row.tries == by_row[row.id].owed.tries]",
        without="rows = list(found)",
        missed_by=(f"{_OUTBOX}::TestSettle::test_settling_twice_is_settling_once[sqlite]",),
    ),
    Guard(
        name="a death that blocks is written once however often it is settled",
        file="app/store/settle.py",
        text="stay = [row for row in found if row.tries == by_row[row.id].owed.tries]",
        without="stay = list(found)",
        missed_by=(f"{_RETRY}::test_a_death_settled_twice_does_not_end_what_was_retried[sqlite-block]",),
    ),
    Guard(
        name="the number of a row in the outbox is never another's",
        file="migrations/versions/0001_the_first_schema.py",
        text=""" name="uq_delivery_delivery_key_lane_id"),
        sqlite_autoincrement=True,""",
        without=""" name="uq_delivery_delivery_key_lane_id"),""",
        missed_by=(
            f"{_RETRY}::test_a_death_settled_twice_does_not_end_what_was_retried[sqlite-skip]",
            f"{_RETRY}::test_a_death_settled_twice_does_not_end_what_came_in_meanwhile[sqlite]",
        ),
    ),
    Guard(
        name="one replica at a time has a lane",
        file="app/store/lanes.py",
        text="""        .limit(bindparam("places", type_=Integer))
        .with_for_update(key_share=True, skip_locked=True)""",
        without="""        .limit(bindparam("places", type_=Integer))""",
        missed_by=("tests/contract/test_interleavings.py::test_a_lane_that_is_just_being_leased_is_passed_over",),
    ),
    Guard(
        name="an open breaker keeps a lane from being leased",
        file="app/store/lanes.py",
        text="        among.c.breaker_until <= now(),\n",
        without="",
        missed_by=(f"{_OUTBOX}::TestHealth::test_a_suspended_lane_is_nobodys[sqlite]",),
    ),
    Guard(
        name="what got old blocks those behind it where its endpoint says so",
        file="app/store/expiry.py",
        text="update(delivery).where(are_old, _BLOCKS)",
        without="update(delivery).where(are_old, _BLOCKS, delivery.c.id < 0)",
        missed_by=(
            "tests/contract/test_expiry.py::test_what_stands_behind_a_death_that_blocks_ends_and_blocks_too[sqlite]",
        ),
    ),
    Guard(
        name="what was tried of a cancelled delivery is kept once",
        file="app/store/settle.py",
        text="if debt is not None and each.owed.tries >= debt.tries:",
        without="if debt is not None:",
        missed_by=(
            f"{_OUTBOX}::TestSweep::test_a_try_of_a_delivery_that_was_cancelled_meanwhile_is_kept[sqlite-delivered]",
        ),
    ),
    Guard(
        name="whoever locks several lanes does it in one order",
        file="app/store/lanes.py",
        text="""bindparam("replica", type_=LargeBinary))
        .order_by(lane.c.id)""",
        without="""bindparam("replica", type_=LargeBinary))
        .order_by(lane.c.id.desc())""",
        missed_by=("tests/contract/test_interleavings.py::test_lanes_are_locked_in_the_order_of_their_ids[renew]",),
    ),
    Guard(
        name="events are inserted in one order",
        file="app/store/insert.py",
        text="in_order = sorted(events, key=lambda each: (each.tenant_id, each.event.id))",
        without="in_order = list(events)",
        missed_by=("tests/contract/test_interleavings.py::test_batches_that_hold_the_same_events_never_deadlock",),
    ),
    Guard(
        name="the sweep wakes what sleeps over something due",
        file="app/store/sweep.py",
        text="woken = await self._wake()",
        without="woken = 0",
        missed_by=(f"{_OUTBOX}::TestSweep::test_a_lane_that_sleeps_over_something_due_is_woken[sqlite]",),
    ),
    Guard(
        name="a lane lies down before it is looked at for the last time",
        file="app/store/outbox.py",
        text="""                return True
        async with self._database.write() as connection:
            return""",
        without="""                return True
            return""",
        missed_by=("tests/contract/test_interleavings.py::test_what_commits_while_a_lane_lies_down_keeps_it_awake",),
    ),
    Guard(
        name="only the first of a key is read, unless the one before it is at hand",
        file="app/store/owed.py",
        text='is_next = of["before_id"] is None or of["before_id"] in at_hand',
        without="is_next = bool(row_id)",
        missed_by=(f"{_IN_ORDER}::test_behind_one_that_failed_nothing_is_handed_out[sqlite]",),
    ),
    Guard(
        name="only the first of a key is sent",
        file="app/relay/waiting.py",
        text="elif row.order_key in self._behind:",
        without="elif row.order_key in self._behind and len(self._behind) > 99:",
        missed_by=(f"{_RELAY}/test_order.py::test_nothing_overtakes_through_failures_crashes_and_restarts[0-key]",),
    ),
    Guard(
        name="what waits for others is put off",
        file="app/store/outbox.py",
        text="if look.waiting and not await self._park(park_in_line, lease, look.waiting):",
        without="if look.waiting and not look.waiting:",
        missed_by=(f"{_IN_ORDER}::test_a_long_queue_behind_one_does_not_hide_the_others[sqlite]",),
    ),
    Guard(
        name="of an object of which enough is at hand nothing more is read",
        file="app/store/owed.py",
        text="is_next and order_key not in crowded",
        without="is_next",
        missed_by=(
            f"{_PARKING}::test_of_a_long_queue_no_more_is_handed_out_than_keeps_room_for_others[sqlite-in line-64]",
        ),
    ),
    Guard(
        name="in order, what is under way ends with its lease",
        file="app/relay/sending.py",
        text="""        if endpoint.ordering == "none":
            return await""",
        without="""        if endpoint.ordering:
            return await""",
        missed_by=(f"{_RELAY}/test_order.py::test_in_order_a_send_does_not_outlive_its_lease[key-0]",),
    ),
    Guard(
        name="what was put off is due when the one before it is over",
        file="app/store/settle.py",
        text="await unpark(connection, let_go | owed_anew)",
        without="await unpark(connection, ())",
        missed_by=(f"{_IN_ORDER}::test_what_was_put_off_is_due_when_the_one_before_it_is_over[sqlite-delivered]",),
    ),
    Guard(
        name="so is what stands behind one that was tried under another order",
        file="app/store/settle.py",
        text="await unpark(connection, let_go | owed_anew)",
        without="await unpark(connection, let_go)",
        missed_by=(f"{_IN_ORDER}::test_a_success_tried_under_another_order_lets_the_next_one_go_too[sqlite-7]",),
    ),
    Guard(
        name="only so much is sent ahead of what is written down",
        file="app/relay/slots.py",
        text="and self._unsettled < UNSETTLED_LIMIT",
        without="and self._unsettled >= 0",
        missed_by=(f"{_RELAY}/test_lane.py::test_what_is_not_written_down_is_bounded_over_all_lanes",),
    ),
    Guard(
        name="an event is matched under the set-up as committed",
        file="app/store/record.py",
        text="if rules.epoch != await read_epoch(connection):",
        without="if rules.epoch < 0:",
        missed_by=(
            "tests/contract/test_event_store.py::test_events_are_matched_under_the_newest_committed_set_up[sqlite]",
        ),
    ),
    Guard(
        name="on SQLite a write holds the lock from its start",
        file="app/store/database.py",
        text='"BEGIN IMMEDIATE" if writes else "BEGIN"',
        without='"BEGIN" if writes else "BEGIN"',
        missed_by=(
            "tests/contract/test_interleavings.py::test_processes_that_read_before_they_write_take_turns_on_sqlite",
        ),
    ),
    Guard(
        name="one process serves a SQLite file",
        file="app/store/lock.py",
        text="            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)\n",
        without="            fcntl.flock(descriptor, fcntl.LOCK_UN)\n",
        missed_by=("tests/unit/store/test_lock.py::test_a_second_one_is_refused_until_the_first_ends",),
    ),
    Guard(
        name="a class of lanes has its share of the slots",
        file="app/relay/slots.py",
        text="            and self._of_class[berth.counted_as] < self._limits[berth.counted_as]\n",
        without="",
        missed_by=(f"{_RELAY}/test_slots.py::test_a_class_has_its_share[slow-128]",),
    ),
    Guard(
        name="a tenant leaves slots to others",
        file="app/relay/slots.py",
        text="            and self._of_tenant[berth.tenant_id] < self._tenant_limit(berth.tenant_id)\n",
        without="",
        missed_by=(f"{_RELAY}/test_slots.py::test_a_tenant_with_a_thousand_lanes_leaves_the_others_their_part",),
    ),
    Guard(
        name="a lane's retries have a budget",
        file="app/relay/retry_budget.py",
        text="fits = firsts < FEW or retries < max(FLOOR, SHARE * firsts)",
        without="fits = retries >= 0",
        missed_by=(f"{_RELAY}/test_pace.py::TestRetryBudget::test_a_busy_lane_repeats_a_fifth",),
    ),
    Guard(
        name="nothing new is sent under a lease that may have run out",
        file="app/relay/leases.py",
        text="return self.holds(lease) and self._monotonic() < self._trusted_until[lease.lane_id]",
        without="return self.holds(lease)",
        missed_by=(f"{_RELAY}/test_replicas.py::test_nothing_new_is_sent_under_a_lease_that_ran_out",),
    ),
    Guard(
        name="what was overtaken while it was read is read again",
        file="app/relay/window.py",
        text="is_overtaken = row.order_key is not None and row.order_key in self._held_back",
        without="is_overtaken = False",
        missed_by=(
            f"{_RELAY}/test_window.py::test_what_was_asked_for_behind_one_that_failed_meanwhile_is_asked_for_again",
        ),
    ),
    Guard(
        name="one refused answer refuses a name",
        file="app/outbound/resolver.py",
        text="""            if refusal is not None:
                raise AddressRefused(f"{host}: {refusal}")
""",
        without="""            if refusal is None:
                break
        else:
            raise AddressRefused(host)
""",
        missed_by=("tests/unit/outbound/test_resolver.py::test_one_private_answer_refuses_the_name[addresses1]",),
    ),
    Guard(
        name="no socket is made for a refused address",
        file="app/outbound/guard.py",
        text="""        if refusal is not None:
            raise AddressRefused(refusal)
        return socket.socket""",
        without="""        return socket.socket""",
        missed_by=("tests/unit/outbound/test_guard.py::test_no_socket_is_made_for_a_refused_address",),
    ),
    Guard(
        name="redirects are not followed",
        file="app/destinations/webhook.py",
        text="allow_redirects=False",
        without="allow_redirects=True",
        missed_by=("tests/unit/destinations/test_webhook.py::test_redirects_are_not_followed",),
    ),
    Guard(
        name="an answer is read so far and no further",
        file="app/destinations/answer.py",
        text="            if seen > READ_BYTES:\n",
        without="            if seen < 0:\n",
        missed_by=("tests/unit/destinations/test_webhook.py::test_a_long_answer_is_not_waited_for",),
    ),
    Guard(
        name="a Kafka producer in trouble is given up before anything is sent again",
        file="app/destinations/kafka_writer.py",
        text="            await asyncio.wait([self._producers.give_up(producer)])\n",
        without="            self._producers.give_back(producer)\n",
        missed_by=(
            "tests/unit/destinations/test_kafka_writer.py::test_a_producer_in_trouble_is_freed_before_anything_is_sent_again",
        ),
    ),
    Guard(
        name="nothing is acknowledged before its commit",
        file="app/ingest/recorder.py",
        text="        return await done\n",
        without="        done.add_done_callback(lambda future: future.exception())\n        return ()\n",
        missed_by=("tests/unit/ingest/test_poller.py::test_nothing_is_acknowledged_before_its_commit",),
    ),
    Guard(
        name="what was not recorded is not acknowledged",
        file="app/ingest/custody.py",
        text="            if recorded:\n                await self._acknowledge(pull, recorded)",
        without="            await self._acknowledge(pull, messages)",
        missed_by=("tests/unit/ingest/test_poller.py::test_what_the_database_takes_in_no_form_is_not_acknowledged",),
    ),
    Guard(
        name="an envelope of SNS is signed by the key of its certificate",
        file="app/sources/sns.py",
        text="verify(envelope, await self._certificates.key(place))",
        without="await self._certificates.key(place)",
        missed_by=(f"{_FORGERIES}::test_a_signed_message_that_was_changed_is_refused[a Subject added]",),
    ),
    Guard(
        name="SNS's certificates come from SNS's own host",
        file="app/sources/sns_place.py",
        text='if _is_file(url, (f"https://{host}", f"https://{host}:443"), _AWS_FILE):',
        without='if url.startswith(f"https://{host}"):',
        missed_by=(f"{_FORGERIES}::test_a_certificate_anywhere_else_is_not_fetched[SNS's name below another]",),
    ),
    Guard(
        name="an envelope of SNS is good for an hour",
        file="app/sources/sns.py",
        text="        check_time(envelope, self._now())\n",
        without="",
        missed_by=(f"{_FORGERIES}::test_a_replay_is_refused_after_an_hour[-61-notification]",),
    ),
)
