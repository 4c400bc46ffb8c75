"""What no program may do, each as a case of its own: it neither passes, nor reaches out, nor stays."""

import os
import re
import shutil
import signal
import subprocess
import sys
import textwrap
import threading
import time
from contextlib import suppress
from pathlib import Path

import pytest

from lab.evaluation import sandbox_child
from lab.evaluation.sandbox import Call, Limits, Program, Sandbox, Verdict
from lab.evaluation.sandbox_walls import FOLDER

LIMITS = Limits(seconds=60, cpu_seconds=10)
RIGHT = "def f(x):\n    return x * 2\n"
SECRET = "k7Q2-" + "what f(20) must give"


@pytest.fixture(scope="module", autouse=True)
def walls():
    """Skip where another program cannot have namespaces either; where it can, none of this may be skipped."""
    try:
        Sandbox().require()
    except ValueError as error:
        command = [shutil.which("unshare") or "false", "-Urmpniu", "--fork", "true"]
        if subprocess.run(command, check=False, stderr=subprocess.DEVNULL).returncode == 0:
            raise
        pytest.skip(str(error))


def served(driver=None):
    """The processes that serve a driver, or run its programs: they are forks, and keep the arguments."""
    ending = f"\0for={driver or os.getpid()}\0".encode()
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            arguments = path.read_bytes()
        except OSError:
            continue
        if sandbox_child.__name__.encode() in arguments and arguments.endswith(ending):
            found.append(int(path.parent.name))
    return sorted(found)


# It calls itself `sleeper`, which can be seen from outside.
SLEEPER = """
import ctypes, time
ctypes.CDLL(None).prctl(15, b'sleeper', 0, 0, 0)
def f(x): time.sleep(99)
"""


def sleepers(driver=None):
    """The programs of a driver that call themselves so."""
    names = {}
    for process in served(driver):
        with suppress(OSError):
            names[process] = Path(f"/proc/{process}/comm").read_text().strip()
    return [process for process, name in names.items() if name == "sleeper"]


def wait_for(condition):
    deadline = time.monotonic() + 120
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def the_four():
    """What starts servers, the server of a program, its keeper and the program, once it sleeps."""
    found = []

    def is_whole():
        found[:] = served()
        return len(found) == 4 and sleepers() == found[3:]

    wait_for(is_whole)
    return found


def verdict_of(program, **limits):
    return Sandbox(LIMITS._replace(**limits)).run([program])[0]


def by_calls(source, *pairs):
    return Program(source, tuple(Call("f", (argument,), value) for argument, value in pairs))


def by_test(source, *pairs):
    tests = [f"assert f({argument!r}) == {value!r}" for argument, value in pairs]
    return Program(source, test="\n".join(tests), entry_point="f")


FORMS = {"calls": by_calls, "test": by_test}


# It is written so that it does not find itself.
SEARCH = """
import re
def found(values):
    sought = re.compile(rb'k7Q2[-]what f[(]20[)] must give')
    for value in values:
        if type(value) is str:
            value = value.encode('utf8', 'replace')
        if type(value) in (bytes, bytearray) and (match := sought.search(value)):
            return match[0].decode()
"""
# Each has a part called `f` that must give the secret for 20, and an end that it comes to.
MALICIOUS = {
    # It says that it has passed.
    "prints the marker": ("failed", "print('passed')\ndef f(x): print('passed')"),
    "writes the marker to every descriptor": (
        "failed",
        """
        import os
        def f(x=0):
            for number in range(256):
                try:
                    os.write(number, b'passed\\n')
                except OSError:
                    pass
        f()
        """,
    ),
    "writes the protocol to every descriptor": (
        "failed",
        """
        import os
        for number in range(256):
            try:
                os.write(number, b"loaded\\n='guess'\\npassed\\n" * 9)
            except OSError:
                pass
        def f(x): return 1
        """,
    ),
    "writes bytes that are no text": (
        "failed",
        "import os\nos.write(4, b'\\xff\\xfe\\x00\\x1b[2J' * 9 + b'\\n')\ndef f(x): return 1",
    ),
    "writes a frame to every descriptor": (
        "failed",
        """
        import os, struct
        report = b'{"lines": ["passed"], "stopped": "", "remains": "", "code": null, "cpu_seconds": 0}'
        for number in range(256):
            try:
                os.write(number, struct.pack('<I', len(report)) + report)
            except OSError:
                pass
        def f(x): return 1
        """,
    ),
    # It ends.
    "os._exit(0)": ("failed", "import os\ndef f(x): os._exit(0)"),
    "ends as if it had no walls": ("killed", "import os\nos._exit(113)"),
    "os._exit(0) at once": ("failed", "import os\nos._exit(0)"),
    "sys.exit(0)": ("failed", "import sys\ndef f(x): sys.exit(0)"),
    "sys.exit(0) at once": ("failed", "import sys\nsys.exit(0)"),
    "a subclass of SystemExit": (
        "failed",
        "class Out(SystemExit):\n    code = 0\n    def __str__(self): return 'passed'\ndef f(x): raise Out",
    ),
    "KeyboardInterrupt": ("failed", "def f(x): raise KeyboardInterrupt"),
    "os.abort": ("killed", "import os\ndef f(x): os.abort()"),
    "a bad pointer": ("killed", "import ctypes\ndef f(x): ctypes.string_at(1)"),
    "execs": ("failed", "import os\ndef f(x): os.execv('/bin/true', ['true'])"),
    "execs Python": ("failed", "import os, sys\ndef f(x): os.execv(sys.executable, ['python', '-c', ''])"),
    "atexit and __del__": (
        "failed",
        """
        import atexit, os
        atexit.register(os._exit, 0)
        class Last:
            def __del__(self, leave=os._exit): leave(0)
        last = Last()
        def f(x): return last
        """,
    ),
    # It kills.
    "kills its parent": ("failed", "import os\ndef f(x): os.kill(os.getppid(), 9)"),
    "kills all": ("failed", "import os\ndef f(x): os.kill(-1, 9)"),
    "kills whatever has a number": (
        "failed",
        """
        import os
        def f(x):
            for number in range(2, 70_000):
                try:
                    os.kill(number, 9)
                except ProcessLookupError:
                    pass
        """,
    ),
    "kills itself": ("failed", "import os\ndef f(x): os.kill(os.getpid(), 9)"),
    # It lies about values.
    "equals everything": (
        "failed",
        "class Any:\n    def __eq__(self, other): return True\n    __hash__ = None\ndef f(x): return Any()",
    ),
    "an int that equals everything": (
        "failed",
        """
        class Any(int):
            def __eq__(self, other): return True
            def __repr__(self): return 'passed'
            __hash__ = None
        def f(x): return Any(1)
        """,
    ),
    "a list that equals everything": (
        "failed",
        """
        class Any(list):
            def __eq__(self, other): return True
            def __iter__(self): return iter('passed')
            def __repr__(self): return 'passed'
            __hash__ = None
        def f(x): return Any()
        """,
    ),
    "a str that equals everything": (
        "failed",
        """
        class Any(str):
            def __eq__(self, other): return True
            def __str__(self): return self
            __hash__ = str.__hash__
        def f(x): return Any('guess')
        """,
    ),
    "a class that is said to be str": (
        "failed",
        """
        class Kind(type):
            def __eq__(self, other): return True
            __hash__ = type.__hash__
        class Any(metaclass=Kind):
            __class__ = str
            def __eq__(self, other): return True
        def f(x): return Any()
        """,
    ),
    "nan": ("failed", "def f(x): return float('nan')"),
    "a generator": ("failed", "def f(x): yield 'guess'"),
    "a function": ("failed", "def f(x): return lambda: None"),
    "a deep list": (
        "failed",
        "def f(x):\n    deep = []\n    for _ in range(10**5): deep = [deep]\n    return deep",
    ),
    "a deeper list, with room to go down": (
        ("failed", "killed"),
        """
        import sys
        sys.setrecursionlimit(10**9)
        def f(x):
            deep = []
            for _ in range(10**6): deep = [deep]
            return deep
        """,
    ),
    "a list that holds itself": (
        "failed",
        "def f(x):\n    loop = []\n    loop.append(loop)\n    return loop",
    ),
    "a large value": ("failed", "def f(x): return 'x' * 10**7"),
    # It changes what judges.
    "patches all modules": (
        "failed",
        """
        import sys
        for module in list(sys.modules.values()):
            for name in ('literal', '_called', '_described', 'literal_eval', 'loads', 'compile'):
                if hasattr(module, name):
                    setattr(module, name, lambda *a, **k: "='guess'")
        def f(x): return 1
        """,
    ),
    "patches builtins": (
        "failed",
        """
        import builtins
        builtins.AssertionError = builtins.Exception = type('Quiet', (BaseException,), {})
        builtins.repr = builtins.ascii = builtins.str = lambda *a: 'passed'
        builtins.type = lambda *a: int
        builtins.getattr = lambda *a: (lambda *a, **k: 1)
        builtins.__build_class__ = None
        def f(x): return 1
        """,
    ),
    "patches the code that runs it": (
        "failed",
        """
        import sys
        def f(x):
            frame = sys._getframe()
            while frame:
                for value in list(frame.f_globals.values()):
                    if hasattr(value, '__code__') and value is not f:
                        value.__code__ = (lambda *a, **k: 'passed').__code__
                frame = frame.f_back
            return 1
        """,
    ),
    "traces": (
        "failed",
        """
        import os, sys
        def trace(frame, event, argument):
            frame.f_locals.update(verdict='passed', line='passed')
            return trace
        sys.settrace(trace)
        def f(x): return 1
        """,
    ),
    "patches what it imports": (
        "failed",
        """
        import sys, types
        for name in list(sys.modules):
            sys.modules[name] = types.ModuleType(name)
        def f(x): return 1
        """,
    ),
    "closes all descriptors": ("failed", "import os\nos.closerange(0, 10**4)\ndef f(x): return 1"),
    "opens its answers again, as a file": (
        "failed",
        "import os\nos.close(4)\nopen('answers', 'w')\ndef f(x): return 1",
    ),
    "deletes itself": ("failed", "import os\ndef f(x): os.remove(__file__)"),
    # It looks for what it should give.
    "searches all objects": (
        "failed",
        SEARCH
        + """
import gc
def f(x):
    return found(item for each in gc.get_objects() for item in [each, *gc.get_referents(each)])
""",
    ),
    "searches all frames": (
        "failed",
        SEARCH
        + """
import sys
def frames():
    frame = sys._getframe()
    while frame:
        yield from [*frame.f_locals.values(), *frame.f_globals.values(), *frame.f_code.co_consts]
        frame = frame.f_back
def f(x): return found(frames())
""",
    ),
    "searches its heap": (
        "failed",
        SEARCH
        + """
import ctypes
def f(x):
    end = ctypes.CDLL(None).sbrk
    end.restype = ctypes.c_void_p
    return found([ctypes.string_at(end(0) - 2**20, 2**20)])
""",
    ),
    "reads its memory as a file": ("failed", "def f(x): return open('/proc/self/mem', 'rb').read(10)"),
    "reads /proc/1/environ": ("failed", "def f(x): return open('/proc/1/environ').read()"),
    "reads descriptors of others": ("failed", "import os\ndef f(x): return os.listdir('/proc/1/fd')"),
    "reads all descriptors": (
        "failed",
        """
        import os
        def f(x):
            for number in range(256):
                try:
                    os.set_blocking(number, False)
                    text = os.read(number, 10**6).decode('utf8', 'replace')
                    if 'k7Q2' in text:
                        return text[text.index('k7Q2'):][:25]
                except OSError:
                    pass
        """,
    ),
    "reads stdin": ("failed", "def f(x): return input()"),
    # It takes all there is.
    "loops for ever": ("timeout", "def f(x):\n    while True: pass"),
    "loops for ever at once": ("timeout", "while True: pass"),
    "masks signals and loops": (
        "timeout",
        """
        import signal
        for number in range(1, signal.NSIG):
            try:
                signal.signal(number, signal.SIG_IGN)
            except (OSError, ValueError):
                pass
        signal.pthread_sigmask(signal.SIG_BLOCK, range(1, signal.NSIG))
        def f(x):
            while True: pass
        """,
    ),
    "recurses without end": ("failed", "def f(x): return f(x)"),
    "recurses without end or limit": (
        ("failed", "killed", "timeout"),
        "import sys\nsys.setrecursionlimit(2**31 - 1)\ndef f(x): return [f(x)] + sorted([1], key=f)",
    ),
    "takes 1 GB": ("failed", "def f(x): return len(bytearray(2**30))"),
    "takes memory by and by": (
        "failed",
        "def f(x):\n    held = []\n    while True: held.append(bytes(10**6))",
    ),
    "forks for ever": ("failed", "import os\ndef f(x):\n    while True: os.fork()"),
    "forks for ever, and goes on": (
        "timeout",
        """
        import os
        def f(x):
            while True:
                try:
                    os.fork()
                except OSError:
                    pass
        """,
    ),
    "starts threads for ever": (
        "failed",
        """
        import threading, time
        def f(x):
            while True: threading.Thread(target=time.sleep, args=(99,)).start()
        """,
    ),
    "writes 1 GB": (
        "failed",
        "def f(x):\n    file = open('large', 'wb')\n    for _ in range(1024): file.write(bytes(2**20))",
    ),
    "writes 1 GB in many files": (
        "failed",
        "def f(x):\n    for i in range(1024): open(str(i), 'wb').write(bytes(2**20))",
    ),
    "makes files for ever": ("failed", "def f(x):\n    for i in range(10**6): open(str(i), 'wb').close()"),
    "opens files for ever": ("failed", "def f(x):\n    held = [open('one', 'w') for i in range(10**6)]"),
    "makes a hole of 1 TB": ("failed", "def f(x):\n    open('hole', 'wb').truncate(10**12)"),
    "prints 100 MB without a line": (
        "failed",
        "def f(x):\n    for _ in range(100): print('x' * 10**6, end='')",
    ),
    "prints what is no text": (
        "failed",
        "import sys\ndef f(x): sys.stdout.buffer.write(bytes(range(256)) * 10**4)",
    ),
    "answers 100 MB without a line": (
        "failed",
        "import os\ndef f(x):\n    for _ in range(100): os.write(4, b'x' * 10**6)",
    ),
    "answers for ever": ("failed", "import os\ndef f(x):\n    while True: os.write(4, b'=1\\n' * 10**4)"),
    "an exception that is endless to tell": (
        "timeout",
        "class Long(Exception):\n    def __str__(self):\n        while True: pass\ndef f(x): raise Long",
    ),
    "an exception of 1 GB": (
        "failed",
        "class Long(Exception):\n    def __str__(self): return 'x' * 2**30\ndef f(x): raise Long",
    ),
    "an exception that raises": (
        "failed",
        "class Worse(Exception):\n    def __str__(self): raise Worse\ndef f(x): raise Worse",
    ),
    "an exception of a class without a name": (
        "failed",
        """
        class Kind(type):
            __name__ = property(lambda self: 1 / 0)
            __mro__ = property(lambda self: 1 / 0)
        class Odd(Exception, metaclass=Kind): pass
        def f(x): raise Odd
        """,
    ),
    "an exception of many lines": ("failed", "def f(x): raise ValueError('\\npassed\\n=1\\n\\x1b[2J')"),
    # It reaches out.
    "opens a socket": ("failed", "import socket\ndef f(x): socket.create_connection(('1.1.1.1', 53), 1)"),
    "opens a socket to itself": (
        "failed",
        "import socket\ndef f(x): socket.create_server(('127.0.0.1', 0))",
    ),
    "looks up a name": ("failed", "import socket\ndef f(x): return socket.getaddrinfo('example.org', 80)"),
    "raises its limits": (
        "failed",
        "import resource\ndef f(x): resource.setrlimit(resource.RLIMIT_AS, (2**40, 2**40))",
    ),
    "raises its limits without bound": (
        "failed",
        "import resource\ndef f(x): resource.setrlimit(resource.RLIMIT_NPROC, (-1, -1))",
    ),
    "climbs out of its folder": (
        "failed",
        "import os\ndef f(x):\n    os.symlink('/', 'up')\n    open('up/escaped', 'w')",
    ),
    "puts a link in place of its folder": (
        "failed",
        "import os\ndef f(x):\n    os.rmdir('/work')\n    os.symlink('/', '/work')",
    ),
    "changes its root": ("failed", "import os\ndef f(x): os.chroot('/work')"),
    "becomes root": ("failed", "import os\ndef f(x): os.setuid(0)"),
    # It is no program.
    "no Python": ("syntax", "def f(x:"),
    "a null byte": ("syntax", "def f(x): return 1\0"),
    "half a character": ("syntax", "def f(x): return '\ud800'"),
    "deep brackets": ("syntax", "(" * 10**5),
    "deep operators": (("syntax", "failed"), "x = " + "-" * 10**5 + "1"),
    "nothing": ("failed", ""),
    "no such function": ("failed", "def g(x): return 1"),
    "no function": ("failed", "f = 1"),
}

# The values are right, and that is not enough.
RIGHT_BUT = {
    "leaves a thread": (
        "it left a thread running",
        """
        import threading, time
        def f(x):
            threading.Thread(target=time.sleep, args=(99,)).start()
            return 2 * x
        """,
    ),
    "leaves a daemon thread": (
        "it left a thread running",
        """
        import threading, time
        threading.Thread(target=time.sleep, args=(99,), daemon=True).start()
        def f(x): return 2 * x
        """,
    ),
    "leaves a child": (
        "it left a process running",
        """
        import os, time
        def f(x):
            if not os.fork():
                time.sleep(99)
            return 2 * x
        """,
    ),
    "leaves a child that is stopped": (
        "it left a process running",
        """
        import os, signal
        child = os.fork()
        if not child:
            os.kill(os.getpid(), signal.SIGSTOP)
        os.waitpid(child, os.WUNTRACED)
        def f(x): return 2 * x
        """,
    ),
    "becomes a daemon": (
        "it left a process running",
        """
        import os, time
        def f(x):
            child = os.fork()
            if not child:
                os.setsid()
                if not os.fork():
                    os.closerange(0, 999)
                    time.sleep(99)
                os._exit(0)
            os.waitpid(child, 0)
            return 2 * x
        """,
    ),
    "ends after its answer": (
        "it (ended before its verdict|left a thread running)",
        """
        import os, threading
        def f(x):
            threading.Timer(0.001, os._exit, (0,)).start()
            return 2 * x
        """,
    ),
}

# They do strange things that concern nobody.
HARMLESS = {
    "nothing strange": RIGHT,
    "prints much": "def f(x):\n    print('x' * 10**7)\n    return 2 * x",
    "waits for its child": """
        import os
        def f(x):
            child = os.fork()
            if not child:
                os._exit(3)
            assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 3
            return 2 * x
        """,
    "forgets a child that has ended": """
        import os, signal
        child = os.fork()
        if not child:
            os._exit(0)
        os.waitid(os.P_PID, child, os.WEXITED | os.WNOWAIT)
        def f(x): return 2 * x
        """,
    "joins its threads": """
        from concurrent.futures import ThreadPoolExecutor
        def f(x):
            with ThreadPoolExecutor(2) as threads:
                return sum(threads.map(int, (x, x)))
        """,
    "an event loop": "import asyncio\nasync def g(x): return 2 * x\ndef f(x): return asyncio.run(g(x))",
    "files of its own": """
        import tempfile
        def f(x):
            with tempfile.NamedTemporaryFile('w+') as file:
                file.write(str(2 * x))
                file.seek(0)
                return int(file.read())
        """,
    "a dataclass": """
        from dataclasses import dataclass
        @dataclass
        class Pair:
            one: 'int'
        def f(x): return Pair(2 * x).one
        """,
    "libraries of the system": "import ssl, sqlite3, lzma, decimal, zlib, hashlib\ndef f(x): return 2 * x",
    "a main part": "def f(x): return 2 * x\nif __name__ == '__main__':\n    raise SystemExit(f(1))",
}


@pytest.fixture(scope="module")
def verdicts():
    """Of all of the above, in both forms: by table, name and form."""
    tables = {"malicious": MALICIOUS, "right but": RIGHT_BUT, "harmless": HARMLESS}
    pair = {"malicious": (20, SECRET), "right but": (20, 40), "harmless": (20, 40)}
    programs = {
        (table, name, form): make(textwrap.dedent(row if isinstance(row, str) else row[1]), pair[table])
        for table, rows in tables.items()
        for name, row in rows.items()
        for form, make in FORMS.items()
    }
    slow = {key for key in programs if key[0] == "malicious" and "timeout" in MALICIOUS[key[1]][0]}
    ran = {}
    soon = LIMITS._replace(seconds=1, cpu_seconds=1)
    for limits, keys in ((LIMITS, programs.keys() - slow), (soon, slow)):
        chosen = sorted(keys)
        ran |= zip(chosen, Sandbox(limits, workers=2).run([programs[key] for key in chosen]), strict=True)
    return ran


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("name", MALICIOUS)
def test_it_does_not_pass(verdicts, name, form):
    outcome, detail = verdicts["malicious", name, form]
    expected = MALICIOUS[name][0]
    assert outcome in ((expected,) if isinstance(expected, str) else expected), detail
    assert 0 < len(detail) <= 300
    assert detail.isprintable()


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("name", RIGHT_BUT)
def test_what_goes_on_after_its_answers_does_not_pass(verdicts, name, form):
    outcome, detail = verdicts["right but", name, form]
    assert outcome == "failed"
    assert re.match(RIGHT_BUT[name][0], detail), detail


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("name", HARMLESS)
def test_what_is_right_passes(verdicts, name, form):
    assert verdicts["harmless", name, form] == Verdict("passed")


def test_none_of_them_is_left(verdicts):
    assert verdicts
    assert served() == []


DENIED = (
    *("unshare", "setns", "mount", "umount2", "ptrace", "shmget", "memfd_create", "msgget", "chroot"),
    "sethostname",
)
# What a program finds inside. Each is a call of `f`, and what it must give.
INSIDE = {
    "an empty environment": ("import os\ndef f(x): return dict(os.environ)", {}),
    "an empty folder of its own": (
        "import os\ndef f(x): return os.getcwd(), os.listdir(), os.stat('.').st_mode & 0o777",
        ("/work", [], 0o700),
    ),
    "that it is the first process": ("import os\ndef f(x): return os.getpid(), os.getppid()", (1, 0)),
    "that it is alone": (
        """
        import os
        def f(x):
            alive = []
            for number in range(2, 70_000):
                try:
                    os.kill(number, 0)
                    alive.append(number)
                except ProcessLookupError:
                    pass
            return alive
        """,
        [],
    ),
    "nobody's rights": (
        """
        import ctypes, os, struct
        def f(x):
            libc, data = ctypes.CDLL(None), ctypes.create_string_buffer(24)
            libc.capget(struct.pack('Ii', 0x20080522, 0), data)
            no_new_privileges, filtered = 39, 21
            return os.getresuid(), os.getresgid(), data.raw, libc.prctl(no_new_privileges, 0, 0, 0, 0)
        """,
        ((65534,) * 3, (65534,) * 3, bytes(24), 1),
    ),
    "five descriptors": (
        """
        import os
        def f(x):
            found = []
            for number in range(1024):
                try:
                    os.fstat(number)
                    found.append(number)
                except OSError:
                    pass
            return found
        """,
        [0, 1, 2, 3, 4],
    ),
    "no /proc": ("import os\ndef f(x): return os.path.exists('/proc')", False),
    "no users": ("import os\ndef f(x): return os.path.exists('/etc/passwd')", False),
    "one device": ("import os\ndef f(x): return os.listdir('/dev')", ["null"]),
    "no packages": (
        """
        def f(x):
            try:
                import numpy
            except ImportError as error:
                return str(error)
        """,
        "No module named 'numpy'",
    ),
    "no packages of Python's own": (
        """
        import os
        def f(x):
            library = os.path.dirname(os.__file__)
            folders = [f'{library}/{name}' for name in os.listdir(library) if name.endswith('-packages')]
            return [os.listdir(folder) for folder in folders if os.listdir(folder)]
        """,
        [],
    ),
    "nothing to write to": (
        """
        import errno, os
        def f(x):
            found = set()
            for place in ('/', '/dev', '/lib', '/usr/lib', os.path.dirname(os.__file__), '/packages'):
                try:
                    open(f'{place}/mine', 'w')
                    found.add(place)
                except OSError as error:
                    found.add(errno.errorcode[error.errno])
            return found - {'EACCES'}
        """,
        {"EROFS"},
    ),
    "calls that fail": (
        """
        import ctypes, errno
        def f(x):
            libc = ctypes.CDLL(None, use_errno=True)
            calls = {
                'unshare': (0x10000000,), 'setns': (3, 0), 'mount': (b'x', b'/work', b'tmpfs', 0, None),
                'umount2': (b'/work', 2), 'ptrace': (0, 0, 0, 0), 'shmget': (0, 4096, 0o1600),
                'memfd_create': (b'x', 0), 'msgget': (0, 0o1600), 'chroot': (b'/work',),
                'sethostname': (b'x', 1),
            }
            found = {}
            for name, arguments in calls.items():
                found[name] = getattr(libc, name)(*arguments), errno.errorcode.get(ctypes.get_errno())
            return found
        """,
        dict.fromkeys(DENIED, (-1, "EPERM")),
    ),
    "no namespace by way of clone": (
        """
        import ctypes, errno, platform
        def f(x):
            libc = ctypes.CDLL(None, use_errno=True)
            number = {'x86_64': 56, 'aarch64': 220}[platform.machine()]
            found = libc.syscall(number, 0x10000000 | 17, 0, 0, 0, 0), errno.errorcode[ctypes.get_errno()]
            return found, (libc.syscall(435, 0, 0), errno.errorcode[ctypes.get_errno()])
        """,
        ((-1, "EPERM"), (-1, "ENOSYS")),
    ),
    "sockets among its own processes alone": (
        """
        import errno, socket
        def f(x):
            found = []
            for family in range(50):
                for make in socket.socket, socket.socketpair:
                    try:
                        make(family, socket.SOCK_STREAM)
                        found.append(family)
                    except OSError as error:
                        if error.errno != errno.EACCES:
                            found.append((family, error.errno))
            return found
        """,
        [1, 1],
    ),
    "limits": (
        """
        import resource
        def f(x):
            kinds = ('AS', 'CPU', 'FSIZE', 'NPROC', 'NOFILE', 'CORE')
            return [resource.getrlimit(getattr(resource, f'RLIMIT_{kind}')) for kind in kinds]
        """,
        [
            (limit, limit)
            for limit in (
                *(LIMITS.memory_bytes, LIMITS.cpu_seconds, LIMITS.folder_bytes),
                *(LIMITS.processes + (0 if os.geteuid() == 0 else 4), LIMITS.open_files, 0),
            )
        ],
    ),
}


@pytest.mark.parametrize("name", INSIDE)
def test_what_a_program_finds_inside(name):
    source, found = INSIDE[name]
    assert verdict_of(by_calls(textwrap.dedent(source), (0, found))) == Verdict("passed")


def test_the_files_of_the_world_are_not_there(tmp_path):
    """Neither the repository nor results, homes or what lies in /tmp; and nothing of it can be written."""
    canary = tmp_path / "canary"
    canary.write_text("alive")
    source = """
        import os
        def f(paths):
            found = []
            for path in paths:
                for action in (os.listdir, os.stat, os.remove, lambda path: open(path, "w"), os.mkdir):
                    try:
                        action(path)
                        found.append((path, action.__name__))
                    except OSError:
                        pass
            return found
        """
    library = Path(
        os.path.realpath(os.__file__)
    )  # the folders on the way to it are there, with nothing else in
    home = [path for path in Path.home().iterdir() if path not in library.parents]
    paths = [canary, tmp_path, "/tmp/made", Path.cwd(), __file__, "/sys", "/run", "/etc/passwd", *home]
    own = Path(FOLDER)  # where it makes what it likes: a checkout may lie in one of that name
    outside = [str(path) for path in paths if own not in Path(path).parents]
    assert len(outside) > 5
    assert verdict_of(by_calls(textwrap.dedent(source), (outside, []))) == Verdict("passed")
    assert canary.read_text() == "alive"
    assert [path.name for path in tmp_path.iterdir()] == ["canary"]
    assert not Path("/tmp/made").exists()


def test_sets_have_one_order():
    """So that a program which makes something of it is judged alike whenever it runs."""
    order = "def f(x): return [*{'one', 'two', 'three', 'four', 'five'}] * 2"
    details = {verdict_of(by_calls(order, (0, None))).detail for _ in range(3)}
    assert len(details) == 1
    assert "'three'" in details.pop()


@pytest.mark.parametrize("form", FORMS)
def test_a_program_finds_nothing_of_those_before_it(form):
    leave = """
        import builtins, os, socket, sys
        import json as changed
        open('left', 'w').write('here')
        builtins.left = sys.left = changed.left = os.environ['left'] = 'here'
        kept = socket.socket(socket.AF_UNIX)
        kept.bind('\\0left')
        kept.listen()
        def f(x): return 2 * x
        """
    look = """
        import builtins, json, os, socket, sys
        def f(x):
            found = [hasattr(each, 'left') for each in (builtins, sys, json)]
            found += [os.path.exists('left'), 'left' in os.environ]
            try:
                socket.socket(socket.AF_UNIX).connect('\\0left')
            except ConnectionRefusedError:
                return any(found)
        """
    make = FORMS[form]
    programs = [make(textwrap.dedent(leave), (1, 2)), make(textwrap.dedent(look), (1, False))] * 2
    assert Sandbox(LIMITS).run(programs) == [Verdict("passed")] * 4


def test_calls_share_a_process_and_no_arguments():
    source = "seen = []\ndef f(x):\n    x.append(0)\n    seen.append(len(x))\n    return seen\n"
    shared = [1]
    assert verdict_of(by_calls(source, (shared, [2]), (shared, [2, 2]))) == Verdict("passed")
    assert shared == [1]


@pytest.mark.parametrize("form", FORMS)
def test_each_call_counts(form):
    wrong = [(value, value * 2 + (value == 3)) for value in range(5)]
    outcome, detail = verdict_of(FORMS[form](RIGHT, *wrong))
    assert outcome == "failed"
    assert {"calls": "f(3,) gave 6, not 7", "test": "AssertionError:  at 'assert f(3) == 7'"}[form] == detail


@pytest.mark.parametrize(
    ("value", "other"),
    [
        (1, True),
        (1, 1.0),
        ("a", b"a"),
        ((1,), [1]),
        ([1, 2.0], [1, 2]),
        ({1}, frozenset({1})),
        ({"a": 1}, {"a": True}),
    ],
)
def test_values_are_compared_with_their_types(value, other):
    source = f"def f(x): return {other!r}"
    assert verdict_of(by_calls(source, (0, value))).outcome == "failed"
    assert verdict_of(by_calls(source, (0, other))) == Verdict("passed")


@pytest.mark.parametrize("limits", [{"seconds": 0.5}])
@pytest.mark.parametrize("form", FORMS)
def test_wall_time_ends_what_uses_no_cpu(form, limits):
    start = time.monotonic()
    verdict = verdict_of(FORMS[form]("import time\ndef f(x): time.sleep(99)", (1, 2)), **limits)
    assert verdict == Verdict("timeout", "no verdict after 0.5 s")
    assert time.monotonic() - start < 90


def test_a_test_that_never_ends_is_ended():
    loop = Program(RIGHT, test="f(1)\nwhile True: pass", entry_point="f")
    assert verdict_of(loop, seconds=99, cpu_seconds=1) == Verdict("timeout", "1 s of CPU time used up")


def test_a_test_sees_exceptions_and_its_own_setup():
    source = """
        class Own(KeyError): pass
        def f(x):
            if x < 0:
                raise [SystemExit, lambda _: b'\\xff'.decode(), UnicodeError, Own, ValueError][x]('below 0')
            return {'b': (x, None), 'a': {x}}
        """
    test = """
        assert f(3) == {'a': {3}, 'b': (3, None)}
        assert list(f(x=3)) == ['b', 'a']
        try:
            f(-1)
        except ValueError as error:
            assert str(error) == 'below 0'
        else:
            assert False
        for argument, kind in ((-2, KeyError), (-3, UnicodeError), (-4, RuntimeError), (-5, RuntimeError)):
            try:
                f(argument)
            except kind as error:
                assert type(error) is kind
        assert helper(f(1)) == 2
        """
    setup = "def f(x): raise NotImplementedError\ndef helper(x): return len(x)"
    program = Program(textwrap.dedent(source), test=textwrap.dedent(test), entry_point="f", setup=setup)
    assert verdict_of(program) == Verdict("passed")


@pytest.mark.parametrize(
    "end", ["import os; os._exit(0)", "import os; os.abort()", "import sys; sys.exit(0)"]
)
def test_a_test_that_forgives_everything_forgives_no_end(end):
    source = f"def f(x):\n    {end}"
    test = "try:\n    f(1)\nexcept BaseException:\n    pass"
    verdict = verdict_of(Program(source, test=test, entry_point="f"))
    assert verdict.outcome == ("passed" if "sys" in end else "failed")


def test_a_test_cannot_be_ended_from_within_as_passed():
    ends = ["import os; f(1); os._exit(0)", "f(1); raise SystemExit", "import sys; sys.exit(0)"]
    verdicts = Sandbox(LIMITS).run([Program(RIGHT, test=end, entry_point="f") for end in ends])
    assert {verdict.outcome for verdict in verdicts} == {"failed"}


def test_packages_may_be_imported_where_asked_for():
    source = "import numpy\ndef f(x): return float(numpy.linalg.norm([3.0, x]))"
    program = by_calls(source, (4.0, 5.0))
    assert verdict_of(program).detail == "ModuleNotFoundError: No module named 'numpy'"
    assert Sandbox(LIMITS, packages=("numpy",)).run([program]) == [Verdict("passed")]


def test_verdicts_come_in_the_order_of_the_programs():
    programs = [by_calls(RIGHT, (1, 2 + number % 3)) for number in range(50)]
    outcomes = [verdict.outcome for verdict in Sandbox(LIMITS, workers=3).run(programs)]
    assert outcomes == ["passed" if number % 3 == 0 else "failed" for number in range(50)]
    assert Sandbox(LIMITS).run([]) == []


def test_programs_go_on_where_what_serves_them_is_lost():
    programs = [by_calls(SLEEPER, (1, 2)), by_calls(RIGHT, (1, 2))]
    found = []
    thread = threading.Thread(target=lambda: found.extend(Sandbox(LIMITS._replace(seconds=99)).run(programs)))
    thread.start()
    for _ in range(2):
        _, serving, *others = the_four()
        os.kill(serving, signal.SIGKILL)
        wait_for(lambda lost={serving, *others}: not lost.intersection(served()))
    thread.join(120)
    assert found == [Verdict("killed", "its keeper ended before it, twice"), Verdict("passed")]
    assert served() == []


def test_a_program_shares_no_namespace_with_the_world():
    thread = threading.Thread(target=verdict_of, args=(by_calls(SLEEPER, (1, 2)),), kwargs={"seconds": 99})
    thread.start()
    _, _, keeper, program = the_four()
    names = ("user", "mnt", "pid", "net", "ipc", "uts")
    ours, kept, its = (
        {name: os.readlink(f"/proc/{process}/ns/{name}") for name in names}  # noqa: PTH115
        for process in ("self", keeper, program)
    )
    assert [name for name in names if its[name] == ours[name]] == []
    assert [name for name in names if its[name] != kept[name]] == ["mnt", "pid"]
    assert Path(f"/proc/{program}/oom_score_adj").read_text() == "1000\n"
    os.kill(program, signal.SIGKILL)
    thread.join()


DRIVER = f"""
from lab.evaluation.sandbox import Call, Limits, Program, Sandbox
Sandbox(Limits(seconds=9)).run([Program({SLEEPER!r}, (Call("f", (1,), 2),))] * 9)
"""


@pytest.mark.parametrize("sent", [signal.SIGKILL, signal.SIGINT])
def test_nothing_outlives_its_driver(sent):
    command = [sys.executable, "-c", DRIVER]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as driver:
        wait_for(lambda: sleepers(driver.pid))
        driver.send_signal(sent)
        errors = driver.communicate(timeout=120)[1].decode()
    assert driver.returncode == -sent
    assert ("KeyboardInterrupt" in errors) == (sent == signal.SIGINT)
    wait_for(lambda: not served(driver.pid))


# A namespace of users in which something is missing: the sandbox starts there, and must see it.
WITHOUT = """
import ctypes, os
uid, gid = os.geteuid(), os.getegid()
assert ctypes.CDLL(None).unshare(0x10000000) == 0
for name, text in (("setgroups", "deny"), ("uid_map", f"0 {uid} 1"), ("gid_map", f"0 {gid} 1")):
    with open(f"/proc/self/{name}", "w") as file:
        file.write(text)
LOSE
from lab.evaluation.sandbox import Call, Program, Sandbox
try:
    Sandbox().run([Program("def f(x): return 2", (Call("f", (1,), 2),))])
except ValueError as error:
    print(error)
"""
NO_MORE = 'open("/proc/sys/user/max_user_namespaces", "w").write("0")'


@pytest.mark.parametrize(
    ("lose", "reason"),
    [
        (NO_MORE, r"unshare: No space left on device"),
        (NO_MORE.replace("user_names", "pid_names"), r"unshare: No space left on device"),
        ("", r"/proc/\d+/uid_map: Operation not permitted"),
    ],
    ids=["no user namespaces", "no PID namespaces", "no other user for root"],
)
def test_without_walls_nothing_runs_and_the_reason_is_given(lose, reason):
    script = WITHOUT.replace("LOSE", lose)
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=300, check=False
    )
    assert done.stderr == ""
    walls = "user, mount, PID and network namespaces or not at all, and here they cannot"
    assert re.match(f"a model's programs run behind {walls}: {reason}. Nothing was run.", done.stdout)


def test_another_system_is_refused(monkeypatch):
    monkeypatch.setattr(sys, "platform", "darwin")
    with pytest.raises(ValueError, match=r"run on Linux alone, which has the walls, but this is darwin\."):
        Sandbox().run([by_calls(RIGHT, (1, 2))])


def test_walls_too_narrow_for_any_program_are_refused():
    with pytest.raises(
        ValueError, match=r"here they cannot: a program that is right failed: answered more than 1 b"
    ):
        Sandbox(Limits(answer_bytes=1)).require()


@pytest.mark.parametrize(
    ("program", "message"),
    [
        (Program(RIGHT), "program 1 must have either `calls` or a `test`, but got both or neither"),
        (Program(RIGHT, (Call("f", (), 1),), "assert f()", "f"), "got both or neither"),
        (
            Program(RIGHT, test="assert f()"),
            "`entry_point` must be the name of a function, but program 1 has ''",
        ),
        (Program(RIGHT, test="assert f()", entry_point="f()"), "program 1 has 'f\\(\\)'"),
        (
            by_calls(RIGHT, (1, float("nan"))),
            "program 1, call of 'f': a value must equal itself, but nan does not",
        ),
        (by_calls(RIGHT, (object(), 1)), "must be of Python's own types, but got one of object"),
        (by_calls(RIGHT, (1, [signal.SIGINT])), "must be of Python's own types, but got one of Signals"),
    ],
)
def test_programs_that_cannot_be_judged_are_refused_before_any_runs(program, message, monkeypatch):
    monkeypatch.setattr(Sandbox, "require", lambda self: pytest.fail("something was started"))
    with pytest.raises(ValueError, match=message):
        Sandbox().run([by_calls(RIGHT, (1, 2)), program])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"limits": Limits(seconds=0)}, r"`seconds` must be a positive number, but got seconds=0\."),
        (
            {"limits": Limits(seconds=float("nan"))},
            r"`seconds` must be a positive number, but got seconds=nan\.",
        ),
        (
            {"limits": Limits(cpu_seconds=1.5)},
            r"`cpu_seconds` must be a positive whole number, but got cpu_seconds=1\.5",
        ),
        ({"limits": Limits(memory_bytes=-1)}, r"`memory_bytes` must be a positive whole number"),
        ({"workers": 0}, r"`workers` must be a positive whole number, but got workers=0\."),
        ({"packages": ("numpy", "no_such")}, r"`packages` must name installed packages, but got 'no_such'\."),
        ({"packages": ("json.tool",)}, r"`packages` must name installed packages, but got 'json\.tool'\."),
        ({"packages": ("string",)}, r"`packages` must name installed packages, but got 'string'\."),
    ],
)
def test_settings_that_cannot_be_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        Sandbox(**arguments)


def test_what_searches_for_the_answer_would_find_it_where_it_is():
    """Else the cases above could not fail."""
    held = f"held = [{SECRET!r}]\nheld_bytes = {SECRET.encode()!r} * 1000\n"
    programs = [by_calls(held + MALICIOUS[name][1], (20, SECRET)) for name in MALICIOUS if "searches" in name]
    assert Sandbox(LIMITS).run(programs) == [Verdict("passed")] * 3


def test_a_package_of_an_environment_behind_a_link_may_be_imported(tmp_path, monkeypatch):
    package = tmp_path / "environment" / "behind_a_link"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("value = 3\n")
    (tmp_path / "link").symlink_to(tmp_path / "environment")
    monkeypatch.syspath_prepend(tmp_path / "link")
    program = by_calls("import behind_a_link\ndef f(x): return behind_a_link.value + x", (1, 4))
    assert Sandbox(LIMITS, packages=("behind_a_link",)).run([program]) == [Verdict("passed")]
