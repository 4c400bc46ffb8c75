"""The environment of the processes of one run."""

import socket

import pytest

from lab.scheduling.ranks import free_address, rank_environment


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
