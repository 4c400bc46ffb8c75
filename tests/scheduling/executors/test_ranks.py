"""The environment of the processes of one run."""

import socket

import pytest

from lab.scheduling.executors.executor import Ended
from lab.scheduling.executors.ranks import blamed, free_address, rank_environment


def test_the_environment_names_the_rank_as_keras_does():
    assert rank_environment(1, 2, "127.0.0.1:4000") == {
        "KERAS_DISTRIBUTION_JOB_ADDRESSES": "127.0.0.1:4000",
        "KERAS_DISTRIBUTION_NUM_PROCESSES": "2",
        "KERAS_DISTRIBUTION_PROCESS_ID": "1",
    }


@pytest.mark.parametrize("rank", [-1, 2])
def test_a_rank_outside_its_group_is_refused(rank):
    with pytest.raises(ValueError, match=rf"`rank` must be in 0\.\.1, but got rank={rank}"):
        rank_environment(rank, 2, "127.0.0.1:4000")


def test_a_free_address_is_on_loopback():
    host, port = free_address().split(":")
    assert host == "127.0.0.1"
    with socket.socket() as listener:
        listener.bind((host, int(port)))


@pytest.mark.parametrize(
    ("ends", "rank"),
    [
        ({}, None),
        ({0: Ended(0), 1: Ended(75)}, None),
        ({0: Ended(-6), 1: Ended(2)}, 1),  # rank 0 lost its connection to the one that says why it left
        ({0: Ended(-6), 1: Ended(-9, "host_oom")}, 1),
        ({0: Ended(-6), 1: Ended(-9)}, 1),
        ({0: Ended(3), 1: Ended(2)}, 0),
    ],
)
def test_the_rank_that_says_why_it_ended_is_blamed(ends, rank):
    assert blamed(ends) == rank
