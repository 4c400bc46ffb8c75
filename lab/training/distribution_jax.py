"""Several processes under JAX: how they find one another, and how they pass values on."""

import socket

import jax
import numpy as np
from jax.experimental import multihost_utils

PIECE_BYTES = 2**22  # of what is passed on at once: one compiled program serves all sizes


def connect(
    address: str | None,
    processes: int | None,
    process: int | None,
    *,
    start_seconds: int,
    heartbeat_seconds: int,
    shutdown_seconds: int,
) -> None:
    """Join the group at `address`; without one, the group that JAX recognises by its launcher.

    A coordinator on loopback listens there alone; JAX would open its port, which asks for no password, to all
    networks. If a rank does not come in `start_seconds`, JAX ends the process with SIGABRT.

    Raises:
        RuntimeError: if this is rank 0 and the port is taken, for which JAX ends with a segmentation fault.
    """
    local = address is not None and address.rpartition(":")[0] in ("127.0.0.1", "localhost")
    if address is not None and process == 0:
        _require_free(int(address.rpartition(":")[2]), "127.0.0.1" if local else "")
    # SIGTERM stays with the run, which saves a checkpoint.
    jax.config.update("jax_enable_preemption_service", False)  # type: ignore[no-untyped-call]
    jax.distributed.initialize(
        coordinator_address=address,
        num_processes=processes,
        process_id=process,
        # The launcher's word is enough: an allocation around it may have other numbers for its tasks.
        cluster_detection_method="deactivate" if address else None,
        coordinator_bind_address=address if local else None,
        initialization_timeout=start_seconds,
        heartbeat_timeout_seconds=heartbeat_seconds,
        shutdown_timeout_seconds=shutdown_seconds,
    )


def _require_free(port: int, host: str) -> None:
    with socket.socket() as listener:
        try:
            listener.bind((host, port))
        except OSError as error:
            raise RuntimeError(f"rank 0 needs port {port} for the other ranks: {error}.") from error


def connected() -> bool:
    """Whether this process belongs to a group."""
    return bool(jax.distributed.is_initialized())


def processes() -> tuple[int, int]:
    """The number of this process, and how many there are."""
    return jax.process_index(), jax.process_count()


def devices() -> list[jax.Device]:
    """Every device of every process, those of a process side by side."""
    return sorted(jax.devices(), key=lambda device: (device.process_index, device.id))


def broadcast(data: bytes) -> bytes:
    """The bytes that rank 0 gives, on every rank."""
    # JAX keeps whole numbers in 32 bits.
    pieces, rest = np.asarray(
        multihost_utils.broadcast_one_to_all(np.array(divmod(len(data), PIECE_BYTES), np.int32))
    ).tolist()
    received = []
    for start in range(0, (pieces + 1) * PIECE_BYTES, PIECE_BYTES):
        piece = np.zeros(PIECE_BYTES, np.uint8)
        own = np.frombuffer(data[start : start + PIECE_BYTES], np.uint8)
        piece[: len(own)] = own
        received.append(np.asarray(multihost_utils.broadcast_one_to_all(piece)).tobytes())
    return b"".join(received)[: pieces * PIECE_BYTES + rest]


def any_of(flag: bool) -> bool:
    """Whether any rank gives True."""
    return bool(multihost_utils.process_allgather(np.array([flag])).any())
