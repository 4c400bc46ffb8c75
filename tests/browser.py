"""A headless browser that a test drives through two pipes, in the DevTools protocol."""

import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from threading import Timer

PROGRAM = next(
    filter(
        None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable"))
    ),
    None,
)
OPTIONS = "--headless=new --no-sandbox --disable-gpu --no-first-run --disable-background-networking"
SECONDS = 1200  # that it may live
# The browser reads commands from file descriptor 3 and answers on 4; both must be free of other use first.
START = """
import fcntl, os, sys
pipes = [fcntl.fcntl(int(number), fcntl.F_DUPFD, 10) for number in sys.argv[1:3]]
for number, pipe in zip((3, 4), pipes):
    os.dup2(pipe, number)
os.execv(sys.argv[3], sys.argv[3:])
"""
# All text of a page, that of components included, and the size of each image that is there.
TEXTS = """
(function texts(node) {
  const size = node.nodeName == "IMG" ? [`image of ${node.naturalWidth} x ${node.naturalHeight}`] : [];
  const inner = [...node.childNodes, ...(node.shadowRoot ? [node.shadowRoot] : [])];
  return size.concat(node.nodeType == Node.TEXT_NODE ? [node.data] : inner.flatMap(texts));
})(document.body).join("\\n")
"""


class Browser:
    """One page in a headless Chromium, which ends with the `with` block.

    Args:
        profile: a folder of its own.
    """

    def __init__(self, profile: Path) -> None:
        commands, self._commands = os.pipe()
        self._answers, answers = os.pipe()
        pipes = (str(commands), str(answers))
        options = [*OPTIONS.split(), f"--user-data-dir={profile}", "--remote-debugging-pipe", "about:blank"]
        self._process = subprocess.Popen(
            [sys.executable, "-c", START, *pipes, PROGRAM, *options],
            pass_fds=(commands, answers),
            stderr=subprocess.DEVNULL,
        )
        os.close(commands)
        os.close(answers)
        self._timer = Timer(SECONDS, self._process.kill)
        self._timer.start()
        self._unread, self._number, self._session = b"", 0, {}

    def __enter__(self) -> "Browser":
        (page,) = (one for one in self.ask("Target.getTargets")["targetInfos"] if one["type"] == "page")
        target = {"targetId": page["targetId"], "flatten": True}
        self._session = {"sessionId": self.ask("Target.attachToTarget", **target)["sessionId"]}
        return self

    def __exit__(self, *error: object) -> None:
        self._timer.cancel()
        self._process.kill()
        self._process.wait()
        os.close(self._commands)
        os.close(self._answers)

    def ask(self, method: str, **parameters: object) -> dict:
        self._number += 1
        command = {"id": self._number, "method": method, "params": parameters, **self._session}
        os.write(self._commands, json.dumps(command).encode() + b"\0")
        while True:
            *messages, self._unread = self._unread.split(b"\0")
            for message in map(json.loads, messages):
                if message.get("id") == self._number:
                    return message["result"]
            if not (read := os.read(self._answers, 2**16)):
                raise EOFError(f"the browser ended before it answered {method}")
            self._unread += read

    def read(self, url: str, *expected: str, seconds: float = 300) -> str:
        """Open a page; its text, once it holds what is expected or the time is over."""
        self.ask("Page.navigate", url=url)
        deadline = time.monotonic() + seconds
        while True:
            text = self.ask("Runtime.evaluate", expression=TEXTS)["result"].get("value", "")
            if all(each in text for each in expected) or time.monotonic() > deadline:
                return text
            time.sleep(0.5)
