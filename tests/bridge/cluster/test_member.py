"""The decisions of nodes, in simulated time: see `simulation`."""

from itertools import pairwise

import pytest

from bridge.cluster.member import DETACHED_S, SETTLED_S, STABLE_S, EndNode, Give, Member, Take
from bridge.cluster.membership import DEAD_S, GAP_S, LOST_S, Peer
from bridge.cluster.partition import ALL_PARTS, GATEWAY
from tests.bridge.cluster.simulation import TICK_S, Simulation

C = "echo.example.org"
D = "news.example.org"
TAKE_OVER_S = 15.0


def test_a_single_node_takes_everything_at_once() -> None:
    world = Simulation()
    world.add(C, D)
    world.run(TICK_S)
    assert world.is_complete(C)
    assert world.is_complete(D)


def test_a_second_node_gets_its_share_after_a_while_but_not_the_gateway() -> None:
    world = Simulation()
    first = world.add(C)
    world.run(30)
    world.add(C)
    world.run(STABLE_S - 1)
    assert world.counts(C) == [256, 0]
    world.run(2.5)
    assert world.counts(C) == [128, 128]
    world.run(2 * SETTLED_S)
    assert world.gateway(C) is first


def test_three_nodes_share_evenly() -> None:
    world = Simulation()
    for _ in range(3):
        world.add(C)
    world.run(20)
    assert max(world.counts(C)) <= 86
    assert world.is_complete(C)


@pytest.mark.parametrize("phase", [0.0, 0.5, 1.0, 1.5])
def test_the_work_of_a_dead_node_is_taken_over_in_time(phase: float) -> None:
    """Also its gateway. The phase is how long ago its last heartbeat was."""
    world = Simulation()
    first = world.add(C)
    world.run(20)
    world.add(C)
    world.add(C)
    world.run(20 + phase)
    assert world.gateway(C) is first
    first.is_running = False
    took = world.run_until(lambda: first not in world.users(C, GATEWAY), LOST_S)
    took += world.run_until(lambda: world.is_complete(C), TAKE_OVER_S)
    assert took <= TAKE_OVER_S - 2.5, "it has to end the node and to attach, too"


def test_a_frozen_node_stops_by_itself_before_it_is_ended_and_comes_back_as_another() -> None:
    world = Simulation()
    first = world.add(C)
    world.run(20)
    world.add(C)
    world.run(20)
    first.is_running = False
    world.run(LOST_S)
    assert not first.uses(C, GATEWAY)
    assert "end node-1" not in world.database.log
    world.run(DEAD_S)
    assert "end node-1" in world.database.log
    before = first.store.incarnation
    first.is_running = True
    world.run(20)
    assert first.store.incarnation > before
    assert world.counts(C) == [128, 128]


def test_a_node_without_the_database_stops_and_goes_on_when_nobody_ended_it() -> None:
    world = Simulation()
    world.add(C)
    world.add(C)
    world.run(20)
    world.database.is_down = True
    world.run(LOST_S + 1)
    assert world.counts(C) == [0, 0]
    world.database.is_down = False
    world.run(1)
    assert world.is_complete(C)
    assert not [one for one in world.database.log if one.startswith("end")]


def test_a_node_that_is_cut_from_the_database_loses_its_work() -> None:
    world = Simulation()
    first = world.add(C)
    second = world.add(C)
    world.run(20)
    first.store.is_cut = True
    world.run(TAKE_OVER_S)
    assert world.gateway(C) is second
    assert world.counts(C) == [0, 256]


def test_a_node_that_stops_gives_away_at_once_what_is_idle_and_then_the_rest() -> None:
    world = Simulation()
    first = world.add(C)
    world.run(20)
    second = world.add(C)
    world.run(20)
    part = min(part for part in ALL_PARTS if first.uses(C, part))
    first.busy[C] = {part}
    first.leave()
    world.run(2 * TICK_S)
    assert world.gateway(C) is second
    assert world.counts(C) == [0, 255]
    assert not world.users(C, part)
    first.busy.clear()
    world.run(2 * TICK_S)
    assert world.is_complete(C)
    world.run(20)
    assert world.counts(C) == [0, 256], "nothing comes back to a node that stops"


def test_the_last_node_that_stops_keeps_all_until_it_ends() -> None:
    world = Simulation()
    node = world.add(C)
    world.run(5)
    node.leave()
    world.run(5)
    assert world.is_complete(C)


def test_a_gateway_that_does_not_attach_goes_round_all_nodes() -> None:
    world = Simulation()
    nodes = [world.add(C) for _ in range(3)]
    world.run(20)
    for node in nodes:
        node.is_attached = False
    seen = [world.gateway(C)]
    for _ in range(round(6 * DETACHED_S / TICK_S)):
        world.run(TICK_S)
        found = world.gateway(C)
        if found is not None and found is not seen[-1]:
            seen.append(found)
    assert set(seen) == set(nodes)
    assert all(a is not b for a, b in pairwise(seen))


def test_the_only_node_keeps_a_gateway_that_does_not_attach() -> None:
    world = Simulation()
    node = world.add(C)
    node.is_attached = False
    world.run(5 * DETACHED_S)
    assert world.gateway(C) is node


def test_a_component_is_run_by_the_nodes_that_have_it() -> None:
    world = Simulation()
    world.add(C)
    second = world.add(C, D)
    world.run(20)
    assert world.counts(D) == [0, 256]
    assert world.gateway(D) is second
    assert world.counts(C) == [128, 128]


def test_a_component_that_is_removed_is_given_to_those_that_still_have_it() -> None:
    world = Simulation()
    first = world.add(C, D)
    world.run(5)
    second = world.add(C, D)
    world.run(20)
    first.configure(C)
    world.run(5)
    assert world.gateway(D) is second
    assert world.counts(D) == [0, 256]
    assert world.is_complete(C)


def test_gateways_are_spread_in_the_end() -> None:
    world = Simulation()
    names = [f"c{n}.example.org" for n in range(4)]
    first = world.add(*names)
    world.run(10)
    second = world.add(*names)
    world.run(SETTLED_S - 5)
    assert {world.gateway(name) for name in names} == {first}
    world.run(10)
    assert [world.gateway(name) for name in names].count(second) == 2


def test_gateways_that_are_free_at_once_are_spread_over_the_live_nodes() -> None:
    world = Simulation()
    names = [f"c{n}.example.org" for n in range(4)]
    first = world.add(*names)
    world.run(10)
    second, third = world.add(*names), world.add(*names)
    world.run(10)
    first.is_running = False
    world.run(TAKE_OVER_S)
    gateways = [world.gateway(name) for name in names]
    assert sorted([gateways.count(second), gateways.count(third)]) == [2, 2]


def test_a_part_that_its_node_does_not_take_is_taken_by_another() -> None:
    """A live node may hang between two batches."""
    world = Simulation()
    first = world.add(C)
    world.add(C).is_running = False
    world.run(TAKE_OVER_S - 10)
    assert world.counts(C)[0] == 256
    assert first.uses(C, GATEWAY)


def observed(member: Member, now: float, *, sent_at: float | None = None, batch: int = 7) -> None:
    ours, theirs = Peer(1, 1, 5, frozenset({C})), Peer(2, 2, batch, frozenset({C}))
    leases = {(C, part): 2 for part in (GATEWAY, *ALL_PARTS)}
    member.observe([ours, theirs], leases, now if sent_at is None else sent_at, now)


def test_an_observer_that_was_frozen_waiting_for_the_answer_ends_nobody() -> None:
    member = Member(1, [C])
    observed(member, 100.0)
    observed(member, 200.0, sent_at=100.5)
    member.pulse.beaten(200.0)
    assert member.decide(200.0, lambda _: ()) == []
    assert member.pulse.is_alive(200.0)


def test_silence_counts_anew_after_a_time_without_a_look() -> None:
    """While the database is away, all counters stand still."""
    member = Member(1, [C])
    observed(member, 100.0)
    observed(member, 100.0 + GAP_S)
    observed(member, 100.0 + GAP_S + 3.0)
    member.pulse.beaten(112.0)
    observed(member, 110.5)
    assert member.decide(110.5, lambda _: ()) == []
    observed(member, 114.0)
    assert member.decide(114.0, lambda _: ()) == [EndNode(2, 7)]


@pytest.mark.parametrize(("after", "ended"), [(DEAD_S - 0.1, []), (DEAD_S, [EndNode(2, 7)])])
def test_a_node_is_dead_after_ten_seconds_of_silence(after: float, ended: list[EndNode]) -> None:
    member = Member(1, [C])
    observed(member, 100.0)
    member.pulse.beaten(100.0 + after)
    for seconds in (3.0, 6.0, 9.0, after):
        observed(member, 100.0 + seconds)
    assert member.decide(100.0 + after, lambda _: ()) == ended


def test_a_node_that_is_not_alive_decides_nothing() -> None:
    member = Member(1, [C])
    member.pulse.beaten(100.0)
    member.observe([Peer(1, 1, 1, frozenset({C}))], {}, 100.0, 100.0)
    everything = Take(C, ALL_PARTS | {GATEWAY})
    assert member.decide(100.0 + LOST_S - 0.1, lambda _: ()) == [everything]
    assert member.decide(100.0 + LOST_S, lambda _: ()) == []


def test_what_was_begun_to_be_given_goes_to_the_same_node() -> None:
    """A gateway that detaches for a second node must not stop there because it came back."""
    member = Member(1, [C])
    peers = [Peer(one, one, 5, frozenset({C})) for one in (1, 2)]
    leases = {(C, GATEWAY): 1}
    member.pulse.beaten(115.0)
    member.observe(peers, leases, 100.0, 100.0)
    member.attached(C, False, 100.0)
    assert not [one for one in member.decide(111.0, lambda _: {GATEWAY}) if isinstance(one, Give)]
    assert not member.holds(C, GATEWAY)
    member.attached(C, True, 112.0)
    assert Give(C, frozenset({GATEWAY}), 2) in member.decide(112.0, lambda _: ())
