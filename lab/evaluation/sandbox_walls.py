"""The walls of the sandbox: what a process of Linux gives up before it runs a program that nobody trusts.

All are calls to the kernel, so that nothing must be installed. They ask for what `unshare` and `bwrap` ask
for, too; but here each of thousands of programs gets walls of its own, in milliseconds, by a fork.

There are two lines of walls. `enter` makes a world for all programs: user, mount, PID, network, IPC and UTS
namespaces, and a root that holds Python's library, the system's, /dev/null and nothing else, read-only.
`Walls.spawn` puts one process into a PID and a mount namespace inside of it, with an empty folder, limits, no
capability and a filter of system calls. There is no /proc in it.
"""

import ctypes
import errno
import fcntl
import os
import platform
import resource
import signal
import struct
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

INSIDE_ID = 65534  # user and group of programs: nobody
FOLDER = "/work"
PACKAGES = "/packages"
UNCONFINED = 113  # how a process ends that could not be put behind its walls, and so ran nothing

_NEW_MOUNTS, _NEW_PIDS = 0x00020000, 0x20000000
_NEW_USER, _NEW_NETWORK, _NEW_IPC, _NEW_UTS = 0x10000000, 0x40000000, 0x08000000, 0x04000000
_NEW_WORLD = _NEW_USER | _NEW_MOUNTS | _NEW_PIDS | _NEW_NETWORK | _NEW_IPC | _NEW_UTS
_NOSUID, _NODEV, _NOEXEC, _BIND, _RECURSIVE, _PRIVATE = 2, 4, 8, 4096, 16384, 1 << 18
_DETACH = 2
_MOST_FILES = 2**20
_KEEPERS = 4  # the waiting process and its parent, the keeper and the examiner, where all have one user
_SETTLING_SECONDS = 1.0  # a thread that was joined is there a little longer
_MOUNT_SETATTR, _CLONE3 = 442, 435  # the same on every machine

# System calls that programs need not make, each of which reaches past a wall, keeps something after its
# process has died, or makes memory that no limit counts. By the kernel's numbers (asm/unistd_64.h and
# asm-generic/unistd.h): ptrace, process_vm_readv, process_vm_writev, mount, umount2, pivot_root, chroot,
# unshare, setns, keyctl, add_key, request_key, bpf, perf_event_open, userfaultfd, memfd_create, shmget,
# semget, msgget, mq_open, open_by_handle_at. Then those with one number everywhere: io_uring_setup,
# open_tree, move_mount, fsopen, fsmount, fspick, pidfd_getfd, mount_setattr, memfd_secret.
_DENIED_EVERYWHERE = (425, 428, 429, 430, 432, 433, 438, 442, 447)


class _Machine(NamedTuple):
    audit: int  # AUDIT_ARCH of linux/audit.h
    pivot_root: int
    clone: int
    sockets: tuple[int, int]  # socket, socketpair
    denied: tuple[int, ...]


_MACHINES = {
    "x86_64": _Machine(
        *(0xC000003E, 155, 56, (41, 53)),
        (
            *(
                101,
                310,
                311,
                165,
                166,
                155,
                161,
                272,
                308,
                250,
                248,
                249,
                321,
                298,
                323,
                319,
                29,
                64,
                68,
                240,
            ),
            304,
        ),
    ),
    "aarch64": _Machine(
        *(0xC00000B7, 41, 220, (198, 199)),
        (
            *(117, 270, 271, 40, 39, 41, 51, 97, 268, 219, 217, 218, 280, 241, 282, 279, 194, 190, 186, 180),
            265,
        ),
    ),
}


class Limits(NamedTuple):
    """What one program may use.

    Attributes:
        seconds: of wall time, from its start to its verdict.
        cpu_seconds: of CPU time, each process; a whole number.
        memory_bytes: of addresses, each process.
        folder_bytes: of all files in its folder, which are in memory; of one file, too.
        processes: that may live at once, with their threads, in all.
        open_files: of each process.
        answer_bytes: of all that it answers.
    """

    seconds: float = 15.0
    cpu_seconds: int = 5
    memory_bytes: int = 512 * 2**20
    folder_bytes: int = 4 * 2**20
    processes: int = 8
    open_files: int = 32
    answer_bytes: int = 2**20


class Walls(NamedTuple):
    """What is left open of the world outside, for the processes that keep programs; never for a program.

    Attributes:
        proc: /proc of the world outside, a folder's descriptor.
        pids: the PID namespace of the keepers, a descriptor.
        own_user: whether programs run as another user than the keepers, which only root can arrange.
        machine: its system calls.
        limits: of each program.
    """

    proc: int
    pids: int
    own_user: bool
    machine: _Machine
    limits: Limits

    def spawn(self, body: Callable[[], None], keep: Sequence[int]) -> int:
        """Run `body` in a process with walls of its own, and say its number.

        It is the first of its PID namespace: when it ends, every process in there is killed.

        Args:
            body: the process ends where it ends.
            keep: descriptors that it finds as 3, 4, ... All others are closed, and 0 to 2 are /dev/null.
        """
        _call("unshare", _NEW_PIDS)
        pid = os.fork()
        if not pid:
            code = UNCONFINED
            try:
                self._confine(keep)
                code = 0
                body()
            finally:
                os._exit(code)  # nothing of the keepers may go on in here
        _call("setns", self.pids, _NEW_PIDS)
        return pid

    def remains(self) -> str:
        """What the first process that its keeper (who calls) has spawned has left running, in words.

        Returns:
            Empty, if it has one thread and no children but dead ones, or so within a second.
        """
        me = os.readlink("self", dir_fd=self.proc)
        pid = self._read(f"{me}/task/{me}/children").split()[0]
        until = time.monotonic() + _SETTLING_SECONDS
        while (found := self._running(pid)) and time.monotonic() < until:
            time.sleep(0.002)
        return found

    def _running(self, pid: str) -> str:
        tasks = os.open(f"{pid}/task", os.O_RDONLY, dir_fd=self.proc)
        try:
            threads = sum(1 for _ in os.scandir(tasks))
        finally:
            os.close(tasks)
        if threads > 1:
            return "it left a thread running"
        # Whoever loses a parent becomes a child of the first process.
        children = self._read(f"{pid}/task/{pid}/children").split()
        return "" if all(self._is_dead(child) for child in children) else "it left a process running"

    def _is_dead(self, pid: str) -> bool:
        try:
            stat = self._read(f"{pid}/stat")
        except (FileNotFoundError, ProcessLookupError):
            return True
        return stat.rpartition(")")[2].split()[0] in "ZX"

    def _read(self, path: str) -> str:
        file = os.open(path, os.O_RDONLY, dir_fd=self.proc)
        try:
            return os.read(file, 2**16).decode("ascii", "replace")
        finally:
            os.close(file)

    def _confine(self, keep: Sequence[int]) -> None:
        limits = self.limits
        os.setsid()  # a signal to its group must not come to the keepers
        score = os.open("self/oom_score_adj", os.O_WRONLY, dir_fd=self.proc)
        os.write(score, b"1000")  # where memory is short, this goes first
        _call("unshare", _NEW_MOUNTS)
        options = f"size={limits.folder_bytes},nr_inodes=1024,mode=0700,uid={INSIDE_ID},gid={INSIDE_ID}"
        _mount("tmpfs", FOLDER, "tmpfs", _NOSUID | _NODEV | _NOEXEC, options)
        os.chdir(FOLDER)
        _keep_only(keep)
        os.environ.clear()
        for kind, limit in (
            (resource.RLIMIT_AS, limits.memory_bytes),
            (resource.RLIMIT_CPU, limits.cpu_seconds),
            (resource.RLIMIT_FSIZE, limits.folder_bytes),
            (resource.RLIMIT_NPROC, limits.processes + (0 if self.own_user else _KEEPERS)),
            (resource.RLIMIT_NOFILE, limits.open_files),
            *(
                (kind, 0)
                for kind in (resource.RLIMIT_CORE, resource.RLIMIT_MEMLOCK, resource.RLIMIT_MSGQUEUE)
            ),
        ):
            resource.setrlimit(kind, (limit, limit))
        if self.own_user:
            os.setgroups([])
            os.setresgid(INSIDE_ID, INSIDE_ID, INSIDE_ID)
            os.setresuid(INSIDE_ID, INSIDE_ID, INSIDE_ID)
        header, nothing = struct.pack("Ii", 0x20080522, 0), bytes(24)
        _check("capset", _libc.capset(header, nothing))
        _prctl("PR_SET_NO_NEW_PRIVS", 38, 1)
        steps = ctypes.create_string_buffer(_filter(self.machine))
        program = ctypes.create_string_buffer(struct.pack("HP", len(steps) // 8, ctypes.addressof(steps)))
        _prctl("PR_SET_SECCOMP", 22, 2, ctypes.addressof(program))


def enter(shown: Sequence[str], hidden: Sequence[str], packages: Sequence[str], limits: Limits) -> Walls:
    """Leave the world outside: a child returns, behind the walls; the caller waits for it and ends.

    Args:
        shown: folders and files of the system that programs may read; others are not there for them.
        hidden: folders in those that are empty for them.
        packages: folders that programs may import from, each shown as /packages/<its name>.
        limits: of each program.

    Raises:
        OSError: saying which step the system refuses. Nothing was run.
    """
    machine = _MACHINES.get(platform.machine())
    if machine is None:
        raise OSError(errno.ENOSYS, f"a machine of {' or '.join(_MACHINES)}, not {platform.machine()!r}")
    proc = os.open("/proc", os.O_RDONLY | os.O_DIRECTORY)
    own_user = os.geteuid() == 0
    _enter_namespaces(own_user)
    _prctl("PR_SET_PDEATHSIG", 1, signal.SIGKILL)
    if pid := os.fork():
        signal.signal(signal.SIGTERM, lambda *_: os.kill(pid, signal.SIGKILL))
        os.closerange(3, _MOST_FILES)  # it opens none: its root changes with the child's
        _, status = os.waitpid(pid, 0)
        os._exit(os.waitstatus_to_exitcode(status) & 0xFF)
    _prctl("PR_SET_PDEATHSIG", 1, signal.SIGKILL)
    pids = os.open("self/ns/pid", os.O_RDONLY, dir_fd=proc)
    _make_root(machine, shown, hidden, packages)
    return Walls(proc, pids, own_user, machine, limits)


def _enter_namespaces(own_user: bool) -> None:
    """Unshare, and map the users: one's own, and for root also that of the programs.

    The kernel does not count root's processes, so root's programs must not be root's.
    """
    uid, gid = os.geteuid(), os.getegid()
    if not own_user:
        _call("unshare", _NEW_WORLD)
        _write("/proc/self/setgroups", "deny")
        _write("/proc/self/uid_map", f"{INSIDE_ID} {uid} 1")
        _write("/proc/self/gid_map", f"{INSIDE_ID} {gid} 1")
        return
    # Only a process outside may map another's user.
    ready_in, ready_out = os.pipe()
    done_in, done_out = os.pipe()
    target = os.getpid()
    helper = os.fork()
    if not helper:
        os.close(ready_out)
        try:
            if os.read(ready_in, 1):
                for name, own in (("uid_map", uid), ("gid_map", gid)):
                    _write(f"/proc/{target}/{name}", f"0 {own} 1\n{INSIDE_ID} {INSIDE_ID} 1\n")
        except OSError as error:
            os.write(done_out, str(error.strerror).encode())
        finally:
            os._exit(0)
    os.close(done_out)
    try:
        _call("unshare", _NEW_WORLD)
        os.write(ready_out, b"+")
    finally:
        os.close(ready_out)
        os.waitpid(helper, 0)
    if refused := os.read(done_in, 1000).decode():
        raise OSError(errno.EPERM, refused)


def _make_root(
    machine: _Machine, shown: Sequence[str], hidden: Sequence[str], packages: Sequence[str]
) -> None:
    _mount(None, "/", None, _RECURSIVE | _PRIVATE)
    _mount("tmpfs", "/tmp", "tmpfs", _NOSUID | _NODEV, "mode=0755,size=1m")
    for folder in ("old", "dev", "etc", FOLDER[1:], PACKAGES[1:]):
        Path("/tmp", folder).mkdir()
    _check("pivot_root", _libc.syscall(machine.pivot_root, b"/tmp", b"/tmp/old"))
    os.chdir("/")
    for path in shown:
        _show(path, path)
    for path in hidden:
        _mount("tmpfs", path, "tmpfs", _NOSUID | _NODEV, "size=4k")
    for path in packages:
        _show(path, f"{PACKAGES}/{Path(path).name}")
    _check("umount2", _libc.umount2(b"/old", _DETACH))
    Path("/old").rmdir()
    read_only = struct.pack("QQQQ", 1 | 2, 0, 0, 0)  # MOUNT_ATTR_RDONLY, MOUNT_ATTR_NOSUID
    here, all_below = -100, 0x8000  # AT_FDCWD, AT_RECURSIVE
    _check("mount_setattr", _libc.syscall(_MOUNT_SETATTR, here, b"/", all_below, read_only, len(read_only)))


def _show(path: str, place: str) -> None:
    """Bind what is at a path of the world outside to a place inside."""
    source, target = Path(f"/old{path}"), Path(place)
    if source.is_symlink():
        target.symlink_to(source.readlink())
        return
    if source.is_dir():
        target.mkdir(parents=True, exist_ok=True)
    else:
        target.touch()
    _mount(str(source), place, None, _BIND | _RECURSIVE)


def _keep_only(keep: Sequence[int]) -> None:
    """Close all descriptors but some, which become 3, 4, ..., and let 0 to 2 be /dev/null."""
    high = [fcntl.fcntl(each, fcntl.F_DUPFD, 64) for each in keep]
    null = os.open("/dev/null", os.O_RDWR)
    for number, each in enumerate((null, null, null, *high)):
        os.dup2(each, number)
    os.closerange(3 + len(high), _MOST_FILES)


def _filter(machine: _Machine) -> bytes:
    """The filter of system calls, in the kernel's BPF: what is denied fails as it does without the right."""
    load, equal, at_least, has_any, give = 0x20, 0x15, 0x35, 0x45, 0x06
    allow, kill, fail = 0x7FFF0000, 0x80000000, 0x00050000
    number, audit, first_argument = 0, 4, 16

    def step(code: int, value: int, if_true: int = 0, if_false: int = 0) -> bytes:
        return struct.pack("HBBI", code, if_true, if_false, value)

    steps = [
        *(step(load, audit), step(equal, machine.audit, if_true=1), step(give, kill)),
        *(step(load, number), step(at_least, 0x40000000, if_false=1), step(give, fail | errno.EPERM)),  # x32
    ]
    for denied in (*machine.denied, *_DENIED_EVERYWHERE):
        steps += [step(equal, denied, if_false=1), step(give, fail | errno.EPERM)]
    # Its flags lie where no filter can look; the C library then takes `clone`.
    steps += [step(equal, _CLONE3, if_false=1), step(give, fail | errno.ENOSYS)]
    # A new namespace, of any kind.
    steps += [step(equal, machine.clone, if_false=4), step(load, first_argument)]
    steps += [step(has_any, 0x7E020000, if_false=1), step(give, fail | errno.EPERM), step(give, allow)]
    # Sockets of a family other than AF_UNIX: AF_VSOCK, for one, knows of no network namespace.
    for socket in machine.sockets:
        steps += [step(equal, socket, if_false=4), step(load, first_argument)]
        steps += [step(equal, 1, if_true=1), step(give, fail | errno.EACCES), step(give, allow)]
    return b"".join([*steps, step(give, allow)])


_libc = ctypes.CDLL(None, use_errno=True)


def _call(name: str, *arguments: int) -> None:
    _check(name, getattr(_libc, name)(*arguments))


def _prctl(what: str, option: int, *arguments: int) -> None:
    filled = (*arguments, 0, 0, 0, 0)[:4]
    _check(what, _libc.prctl(option, *(ctypes.c_ulong(each) for each in filled)))


def _mount(source: str | None, place: str, kind: str | None, flags: int, options: str | None = None) -> None:
    texts = [None if each is None else each.encode() for each in (source, place, kind, options)]
    result = _libc.mount(texts[0], texts[1], texts[2], ctypes.c_ulong(flags), texts[3])
    _check(f"mount at {place}", result)


def _write(path: str, text: str) -> None:
    file = os.open(path, os.O_WRONLY)
    try:
        os.write(file, text.encode())
    except OSError as error:
        raise OSError(error.errno, f"{path}: {error.strerror}") from error
    finally:
        os.close(file)


def _check(what: str, result: Any) -> None:
    if result == -1:
        code = ctypes.get_errno()
        raise OSError(code, f"{what}: {os.strerror(code)}")
