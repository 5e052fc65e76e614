"""Asking a coordinator who is there."""

from __future__ import annotations

import socket
import threading

import hawser
import numpy as np
import pytest

MEMBER = {
    "rank", "name", "id", "address", "state", "heard_ms", "why", "ops", "bytes_sent", "bytes_received", "ops_per_s",
    "bytes_sent_per_s", "bytes_received_per_s", "slow_ms", "waits_for",
}  # fmt: skip


def test_a_coordinator_without_a_group(coordinator):
    report = coordinator.report()
    assert report["heartbeat_ms"] == 200 and report["peer_timeout_ms"] == 2000
    assert report["standby_of"] is None and report["peers"] == 0 and report["groups"] == []


def test_the_members_of_a_group(coordinator, run_peers):
    asked = threading.Barrier(2)

    def peer(comm):
        comm.all_reduce(np.ones(100))
        report = hawser.coordinator_report(coordinator.address, timeout=10)
        mine = next(member for member in report["groups"][0]["members"] if member["rank"] == comm.rank)
        assert mine["id"] == comm.members[comm.rank].id and mine["name"] == comm.members[comm.rank].name
        asked.wait(10)
        return report

    for report in run_peers(2, peer):
        assert report["peers"] == 2 and len(report["groups"]) == 1
        group = report["groups"][0]
        assert group["group"] == 0 and group["rule"] == "alone" and group["leads"] is True and group["view"] >= 1
        assert [member["rank"] for member in group["members"]] == [0, 1] and group["others"] == []
        for member in group["members"]:
            assert set(member) >= MEMBER and member["state"] == "member"


def test_a_newcomer_that_waits(coordinator):
    caught = []

    def join():
        try:
            hawser.connect(coordinator, min_size=2, timeout=20).close()
        except hawser.Error as error:
            caught.append(error)

    newcomer = threading.Thread(target=join)
    newcomer.start()
    try:
        while "waiting" not in [peer["state"] for group in coordinator.report()["groups"] for peer in group["others"]]:
            assert newcomer.is_alive()
        (group,) = coordinator.report()["groups"]
        assert group["members"] == [] and group["view"] == 0
        assert [peer["why"] for peer in group["others"]] == ["min_size = 2 peers, 1 are here"]
    finally:
        with hawser.connect(coordinator, min_size=2, timeout=20):
            newcomer.join(20)
    assert not newcomer.is_alive() and not caught


def test_nobody_there():
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"127.0.0.1:{server.getsockname()[1]}"
        with pytest.raises(hawser.CoordinatorError) as caught:  # takes the connection and says nothing
            hawser.coordinator_report(address, timeout=0.2)
        assert caught.value.name == "NO_COORDINATOR"
    with pytest.raises(hawser.CoordinatorError) as caught:
        hawser.coordinator_report(address)
    assert caught.value.name == "NO_COORDINATOR"


@pytest.mark.parametrize("address", [None, 7, b"127.0.0.1:1"])
def test_no_address(address):
    with pytest.raises(hawser.ArgumentTypeError):
        hawser.coordinator_report(address)


def test_mistakes(coordinator):
    for wrong in ("nonsense", "127.0.0.1:99999", "127.0.0.1:1\0"):
        with pytest.raises(hawser.ArgumentValueError):
            hawser.coordinator_report(wrong)
    with pytest.raises(hawser.ArgumentValueError):
        coordinator.report(timeout=0)
    coordinator.close()
    with pytest.raises(hawser.UsageError):
        coordinator.report()
