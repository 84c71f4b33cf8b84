"""What a front decides and knows, without a host: order, whom it remembers for how long, and metrics put together."""

from __future__ import annotations

from typing import Any

import pytest

from thalweg.deploy.server.hosts.kept import KeptConversations
from thalweg.deploy.server.hosts.moving import AT_ONCE, HURRY_S, PATIENCE_S, Move, MoveState
from thalweg.deploy.server.hosts.news import HostState, News, SessionNews, key_digest
from thalweg.deploy.server.hosts.placing import Room, hosts_wanted, order, taken_of
from thalweg.deploy.server.hosts.ray_hosts import zone_of
from thalweg.deploy.server.observing.exposition import merged
from thalweg.deploy.server.snapshot import MOST_BYTES, Snapshot, SnapshotError, host_of, session_id
from thalweg.pipeline.dialogue.events import Again, Say


def room(name: str, held: int = 0, **other: object) -> Room:
    given: dict[str, object] = {"ready": True, "pending": 0, "limit": None, "busy": False}
    return Room(name=name, held=held, **{**given, **other})  # type: ignore[arg-type]


def told(boot: str, number: int, changed: dict[str, str], *also: str, was: str = "") -> News:
    sessions = {
        name: SessionNews(key=key_digest(key), address="10.0.0.1", state="talking", was=was, snapshot={})
        for name, key in changed.items()
    }
    return News(boot=boot, number=number, state=HostState(), changed=sessions, all=[*changed, *also])


def test_newcomers_are_sent_to_the_emptiest_first_and_to_the_full_last() -> None:
    hosts = [room("a", 9, limit=10), room("b", 8, limit=20), room("c", 3, limit=3), room("d", 5, busy=True)]
    assert order(hosts) == ["b", "a", "c", "d"]
    assert order([room("a", 1), room("b", 0, busy=True)]) == ["b", "a"], "it takes one, however busy it is"
    assert order([room("a", 1), room("b", 1, pending=1), room("c", 0, ready=False)]) == ["a", "b", "c"]


def test_at_equal_room_a_host_of_the_zone_goes_before_and_an_emptier_one_before_that() -> None:
    near, far = room("b", 5, limit=8), room("a", 4, limit=8, far=True)
    assert order([near, far]) == ["b", "a"], "both are half full"
    assert order([room("b", 6, limit=8), far]) == ["a", "b"], "the near one is fuller by a quarter"
    assert order([room("b", 8, limit=8), far]) == ["a", "b"]
    assert order([room("b", 0, limit=8, ready=False), far]) == ["a", "b"]
    assert order([room("b", 5, limit=8, ready=False), far]) == ["b", "a"], "it opens the next one just now"
    assert order([room("b", 5, limit=8, ready=False), room("c", 5, limit=8), far]) == ["c", "b", "a"]
    assert order([room("b", 3), room("a", 0, far=True)]) == ["b", "a"], "of hosts that have not learned a limit"
    assert order([room("b", 4), room("a", 0, far=True)]) == ["a", "b"]
    assert order([room("b", 5, limit=8), room("a", 4, limit=8)]) == ["a", "b"], "without zones the emptiest"


def test_a_ray_node_is_in_the_zone_that_its_labels_say() -> None:
    assert zone_of({"Labels": {"zone": "a", "ray.io/availability-zone": "b"}}) == "a"
    assert zone_of({"Labels": {"ray.io/availability-zone": "b"}}) == "b"
    assert zone_of({"Labels": None}) == zone_of({}) == ""


def test_hosts_are_wanted_before_all_places_are_taken() -> None:
    assert taken_of([room("a", 3, limit=4), room("b", 2, pending=1), room("c", 2, busy=True)]) == (8, 10)
    wanted = {held: hosts_wanted([room("a", held, limit=4), room("b", held, limit=4)]) for held in range(5)}
    assert wanted == {0: 1, 1: 1, 2: 2, 3: 2, 4: 3}
    assert hosts_wanted([]) == 1 and hosts_wanted([room("a", 9_000, limit=1)]) == 64
    assert hosts_wanted([room("a", 1, busy=True)]) == 2
    full = [room("a", 3, limit=3, shared_full=True), room("b", 0, limit=0, shared_full=True)]
    assert hosts_wanted(full) == 2, "a worker that all share is full: another host would hold no one more"
    assert taken_of(full) == (3, 3)


def test_what_a_lost_host_had_is_kept_for_those_who_come_back_and_no_longer() -> None:
    kept = KeptConversations(resume_s=60.0)
    kept.news("a", told("boot", 1, {"a-1": "key"}), 0.0)
    kept.lost("a", 10.0)
    found = kept.find("a-1")
    assert found is not None and found.opens("key") and not found.opens("") and not found.opens(found.key)
    assert kept.by_address().total() == 0, "whose host is gone takes nobody's place"
    kept.passed(69.0)
    assert kept.find("a-1") is not None
    kept.passed(71.0)
    assert kept.find("a-1") is None


def test_what_has_ended_is_forgotten_and_what_was_there_before_a_new_start_is_lost() -> None:
    kept = KeptConversations(resume_s=60.0)
    kept.news("a", told("one", 2, {"a-1": "k", "a-2": "k"}), 0.0)
    kept.news("a", told("one", 3, {}, "a-2"), 1.0)
    assert kept.find("a-1") is None
    kept.news("a", told("two", 1, {}), 2.0)
    found = kept.find("a-2")
    assert found is not None and found.lost_s == 2.0


def test_a_host_that_was_only_away_has_what_it_had() -> None:
    kept = KeptConversations(resume_s=60.0)
    kept.news("a", told("one", 1, {"a-1": "k"}), 0.0)
    kept.lost("a", 1.0)
    kept.news("a", told("one", 1, {}, "a-1"), 2.0)
    kept.back("a", "one")
    found = kept.find("a-1")
    assert found is not None and found.lost_s is None


def test_every_id_that_a_conversation_had_leads_to_the_one_it_has() -> None:
    kept = KeptConversations(resume_s=60.0)
    kept.news("a", told("one", 1, {"a-1": "k"}), 0.0)
    kept.moved("a-1", "b-2")
    kept.news("c", told("one", 1, {"c-3": "k"}, was="b-2"), 0.0)
    assert {kept.now_at(name) for name in ("a-1", "b-2", "c-3")} == {"c-3"}
    assert kept.find("a-1") is None
    kept.moved("c-3", "a-1")
    assert kept.now_at("a-1") == "c-3", "no ring of ids, whoever says so"


def test_somebody_is_asked_between_turns_hung_up_if_they_stay_and_told_goodbye_in_the_end() -> None:
    move = Move(within_s=30.0)
    assert move.passed(1.0, between_turns=False) is None
    assert move.passed(2.0, between_turns=True) is MoveState.ASKED
    assert move.passed(2.0 + PATIENCE_S - 0.1, between_turns=True) is None
    assert move.passed(2.0 + PATIENCE_S, between_turns=False) is MoveState.HUNG_UP
    assert move.passed(30.0, between_turns=False) is MoveState.ENDED
    assert move.passed(31.0, between_turns=True) is None


def test_who_never_stops_talking_is_asked_in_mid_turn_before_time_runs_out() -> None:
    move = Move(within_s=30.0)
    assert move.passed(30.0 - HURRY_S, between_turns=False) is MoveState.ASKED


def test_few_are_asked_at_once_until_time_runs_out() -> None:
    move = Move(within_s=30.0)
    assert move.passed(1.0, between_turns=True, under_way=AT_ONCE) is None
    assert move.passed(1.1, between_turns=True, under_way=AT_ONCE - 1) is MoveState.ASKED
    late = Move(within_s=30.0)
    assert late.passed(30.0 - HURRY_S, between_turns=True, under_way=AT_ONCE) is MoveState.ASKED


def test_metrics_of_hosts_are_one_exposition_with_each_family_once() -> None:
    counter = '# HELP m_total Of m\n# TYPE m_total counter\nm_total{kind="x"} 1.0\n'
    text = f"{counter}nonsense line here\n# TYPE g gauge\ng 2.0\n"
    found = merged({"a": text, "b": text}, {"moved": 3}, {"a": True, "b": False}).splitlines()
    assert found[:4] == [
        "# HELP m_total Of m",
        "# TYPE m_total counter",
        'm_total{host="a",kind="x"} 1.0',
        'm_total{host="b",kind="x"} 1.0',
    ]
    assert {'g{host="a"} 2.0', 'thalweg_front_events_total{kind="moved"} 3', 'thalweg_host_up{host="b"} 0'} <= {*found}
    assert not any("nonsense" in line for line in found)


def test_an_id_says_where_it_lives_and_one_without_a_host_says_nothing() -> None:
    assert host_of(session_id("host-12")) == "host-12"
    assert [host_of(name) for name in (session_id(""), "", "x", "-" * 13)] == ["", "", "", ""]


@pytest.mark.parametrize(
    "wrong",
    [None, [], {"epoch": -1}, {"epoch": "x"}, {"epoch": 1, "stages": {"a": 3}}, {"epoch": 1 << 70}],
)
def test_a_snapshot_that_is_none_is_refused_without_saying_what_stands_in_it(wrong: object) -> None:
    with pytest.raises(SnapshotError, match="cannot be read"):
        Snapshot.read(wrong)


@pytest.mark.parametrize(
    ("waiting", "chat", "asks"),
    [
        ({"turn": 0}, {"past": [], "asked": {"turn": 3, "text": "older"}}, "new"),
        ({"turn": 4}, {"past": [{"turn": 2}], "asked": {"turn": 3, "text": "older"}}, "new"),
        ({"turn": 4}, {"past": [{"turn": 2}], "asked": {"turn": 4, "text": "new"}}, "again new"),
        ({"turn": 4}, {"past": [{"turn": 4}], "asked": None}, None),
        ({"turn": 4}, {}, "new"),
        (None, {"past": [], "asked": {"turn": 3, "text": "older"}}, "again older"),
        (None, {}, None),
    ],
)
def test_a_snapshot_asks_the_newest_question_that_is_not_answered(waiting: Any, chat: Any, asks: str | None) -> None:
    written = {"known": ["a"], "waiting": None if waiting is None else {"id": "a", "text": "new"} | waiting}
    asked = Snapshot.read({"epoch": 4, "stages": {"chat": chat}, "written": written}).to_ask
    told = f"again {asked.text}" if isinstance(asked, Again) else asked.text if isinstance(asked, Say) else None
    assert told == asks


def test_a_snapshot_that_is_too_large_is_refused() -> None:
    with pytest.raises(SnapshotError, match=f"at most {MOST_BYTES}"):
        Snapshot.read({"epoch": 1, "stages": {"chat": {"past": "x" * MOST_BYTES}}})
