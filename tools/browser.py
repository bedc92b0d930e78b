"""A headless Chromium, driven over its debugging pipe: how a page looks, what it asks for, what it complains of."""

from __future__ import annotations

import base64
import itertools
import json
import os
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

PROGRAMS = ("chromium", "google-chrome", "chromium-browser")
_PLACE = """
import fcntl, os, sys
read, write = (fcntl.fcntl(int(number), fcntl.F_DUPFD, 10) for number in sys.argv[1:3])
os.dup2(read, 3), os.dup2(write, 4)
os.execv(sys.argv[3], sys.argv[3:])
"""
"""Starts a program with two given descriptors as 3 and 4, where `--remote-debugging-pipe` reads and writes."""
_TIMEOUT_S = 60.0
_SETTLED_S = 0.3
"""After loading: what a page still does, it does by then; our pages run nothing."""


class Page:
    """One page in a browser.

    Attributes:
        complaints: what the browser wrote to its console about it, errors and warnings.
        requests: every address that it asked for, its own first.
    """

    def __init__(self, browser: Browser, session: str) -> None:
        self._browser = browser
        self._session = session
        self.complaints: list[str] = []
        self.requests: list[str] = []

    def ask(self, method: str, **parameters: Any) -> dict[str, Any]:
        """Call a method of the DevTools protocol."""
        return self._browser.ask(method, parameters, session=self._session)

    def evaluate(self, expression: str) -> Any:
        """The value of a JavaScript expression, as JSON can hold it."""
        answer = self.ask("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        if "exceptionDetails" in answer:
            raise RuntimeError(answer["exceptionDetails"]["exception"].get("description", "it threw"))
        return answer["result"].get("value")

    def picture(self, *, height: int | None = None) -> bytes:
        """The page as PNG, from its top: as much as `height` CSS pixels of it; None for all."""
        size = self.ask("Page.getLayoutMetrics")["cssContentSize"]
        shown = min(height or size["height"], size["height"])
        clip = {"x": 0, "y": 0, "width": size["width"], "height": shown, "scale": 1}
        answer = self.ask("Page.captureScreenshot", format="png", captureBeyondViewport=True, clip=clip)
        return base64.b64decode(answer["data"])

    def hear(self, event: dict[str, Any]) -> None:
        """Note an event of the protocol."""
        method, told = event["method"], event["params"]
        if method == "Network.requestWillBeSent":
            self.requests.append(told["request"]["url"])
        elif method == "Runtime.exceptionThrown":
            self.complaints.append(told["exceptionDetails"]["text"])
        elif method == "Log.entryAdded" and told["entry"]["level"] in ("error", "warning"):
            self.complaints.append(told["entry"]["text"])
        elif method == "Runtime.consoleAPICalled" and told["type"] in ("error", "warning"):
            self.complaints.append(" ".join(str(one.get("value")) for one in told["args"]))


class Browser:
    """A running browser. `open_browser` makes one."""

    def __init__(self, send: int, receive: int) -> None:
        self._send, self._receive = send, receive
        self._numbers = itertools.count(1)
        self._buffer = b""
        self._pages: dict[str, Page] = {}
        self._loaded: set[str] = set()

    def open(self, path: Path, *, width: int = 1280, height: int = 900, dark: bool = False, scale: float = 1.0) -> Page:
        """Open a file and wait until it is loaded."""
        target = self.ask("Target.createTarget", {"url": "about:blank"})["targetId"]
        session = self.ask("Target.attachToTarget", {"targetId": target, "flatten": True})["sessionId"]
        page = self._pages[session] = Page(self, session)
        for domain in ("Page", "Runtime", "Log", "Network"):
            page.ask(f"{domain}.enable")
        page.ask(
            "Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=scale, mobile=False
        )
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        page.ask("Emulation.setEmulatedMedia", features=[scheme])
        page.ask("Page.navigate", url=path.resolve().as_uri())
        self._read_until(lambda: session in self._loaded, "the page was not loaded")
        self._read_for(_SETTLED_S)
        return page

    def ask(self, method: str, parameters: dict[str, Any], *, session: str | None = None) -> dict[str, Any]:
        """Call a method of the protocol and wait for the answer."""
        number = next(self._numbers)
        message = {"id": number, "method": method, "params": parameters}
        if session is not None:
            message["sessionId"] = session
        os.write(self._send, json.dumps(message).encode() + b"\0")
        answers: list[dict[str, Any]] = []
        self._read_until(lambda: bool(answers), f"no answer to {method}", answers=answers, number=number)
        if "error" in answers[0]:
            raise RuntimeError(f"{method}: {answers[0]['error']['message']}")
        result: dict[str, Any] = answers[0]["result"]
        return result

    def _read_until(
        self, is_over: Any, complaint: str, *, answers: list[dict[str, Any]] | None = None, number: int = 0
    ) -> None:
        deadline = time.monotonic() + _TIMEOUT_S
        while not is_over():
            left = deadline - time.monotonic()
            if left <= 0:
                raise TimeoutError(f"{complaint} within {_TIMEOUT_S:.0f} s")
            for message in self._messages(left):
                if answers is not None and message.get("id") == number:
                    answers.append(message)
                else:
                    self._take(message)

    def _read_for(self, seconds: float) -> None:
        deadline = time.monotonic() + seconds
        while (left := deadline - time.monotonic()) > 0:
            for message in self._messages(left):
                self._take(message)

    def _take(self, message: dict[str, Any]) -> None:
        page = self._pages.get(message.get("sessionId", ""))
        if page is not None and "method" in message:
            page.hear(message)
            if message["method"] == "Page.loadEventFired":
                self._loaded.add(message["sessionId"])

    def _messages(self, seconds: float) -> Iterator[dict[str, Any]]:
        """What has come by now, or comes within some seconds."""
        if select.select([self._receive], [], [], seconds)[0]:
            data = os.read(self._receive, 1 << 20)
            if not data:
                raise RuntimeError("the browser is gone")
            *whole, self._buffer = (self._buffer + data).split(b"\0")
            yield from (json.loads(one) for one in whole)


def program() -> str | None:
    """Where a Chromium is, None where there is none."""
    return next((path for name in PROGRAMS if (path := shutil.which(name))), None)


@contextmanager
def open_browser() -> Iterator[Browser]:
    """A browser with a profile of its own; it ends with the block.

    Raises:
        FileNotFoundError: no Chromium is installed.
    """
    found = program()
    if found is None:
        raise FileNotFoundError(f"none of {', '.join(PROGRAMS)} is installed")
    (theirs_in, send), (receive, theirs_out) = os.pipe(), os.pipe()

    with tempfile.TemporaryDirectory(prefix="browser-", ignore_cleanup_errors=True) as profile:
        flags = ["--headless=new", "--remote-debugging-pipe", f"--user-data-dir={profile}", "--hide-scrollbars"]
        flags += ["--no-first-run", "--disable-gpu", "--disable-dev-shm-usage", "--disable-background-networking"]
        flags += ["--no-sandbox"] if os.geteuid() == 0 else []  # its sandbox refuses root; the pages are our own
        process = subprocess.Popen(
            [sys.executable, "-S", "-E", "-c", _PLACE, str(theirs_in), str(theirs_out), found, *flags],
            pass_fds=(theirs_in, theirs_out), stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True,
        )  # fmt: skip
        os.close(theirs_in)
        os.close(theirs_out)
        try:
            yield Browser(send, receive)
        finally:
            os.close(send)  # it ends when nobody can talk to it any more
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
            os.close(receive)
