"""A small driver of headless Chromium by the DevTools protocol: open, look, click, type, take a picture."""

import base64
import itertools
import json
import shutil
import subprocess
import time
import urllib.request
from pathlib import Path
from types import TracebackType
from typing import Any

from websockets.sync.client import ClientConnection, connect

BINARY = "/usr/bin/chromium"
WAIT_S = 20.0
_FLAGS = (
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--no-first-run",
    "--disable-background-networking",
    "--remote-debugging-port=0",
    "--remote-allow-origins=*",
    "--lang=zh-CN",
    "--hide-scrollbars",
)


class Chrome:
    """One browser with one page; ends with its folder."""

    def __init__(self, folder: Path, width: int = 1360, height: int = 860) -> None:
        self._folder, self._size = folder, (width, height)
        self._ids = itertools.count(1)
        self.exceptions: list[str] = []
        """Errors that scripts of the page did not catch."""

    def __enter__(self) -> "Chrome":
        command = [BINARY, *_FLAGS, f"--user-data-dir={self._folder}", "about:blank"]
        self._process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        self._socket = self._attach()
        self.send("Page.enable")
        self.send("Runtime.enable")
        self._resize(*self._size)
        return self

    def _resize(self, width: int, height: int) -> None:
        metrics = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}
        self.send("Emulation.setDeviceMetricsOverride", **metrics)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._socket.close()
        self._process.terminate()
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait(10)
        shutil.rmtree(self._folder, ignore_errors=True)

    def _attach(self) -> ClientConnection:
        port_file, deadline = self._folder / "DevToolsActivePort", time.monotonic() + WAIT_S
        while time.monotonic() < deadline:
            if port_file.exists() and (lines := port_file.read_text().splitlines()):
                with urllib.request.urlopen(f"http://127.0.0.1:{lines[0]}/json/list", timeout=5) as answer:
                    pages = [t for t in json.load(answer) if t["type"] == "page"]
                if pages:
                    return connect(pages[0]["webSocketDebuggerUrl"], max_size=None, legacy=True)
            time.sleep(0.1)
        raise TimeoutError("Chromium did not open its debugging port")

    def send(self, method: str, **params: Any) -> dict[str, Any]:
        """Send a command and return its result; events that come in between only feed `exceptions`."""
        number = next(self._ids)
        self._socket.send(json.dumps({"id": number, "method": method, "params": params}))
        while True:
            message = json.loads(self._socket.recv(timeout=WAIT_S))
            if message.get("method") == "Runtime.exceptionThrown":
                self.exceptions.append(json.dumps(message["params"]["exceptionDetails"], ensure_ascii=False))
            if message.get("id") == number:
                if "error" in message:
                    raise RuntimeError(f"{method}: {message['error']}")
                result: dict[str, Any] = message["result"]
                return result

    def run(self, expression: str) -> Any:
        """Evaluate JavaScript and return its value; None while a page is changing."""
        try:
            result = self.send(
                "Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True
            )
        except RuntimeError:
            return None
        return result["result"].get("value")

    def wait(self, expression: str, seconds: float = WAIT_S) -> None:
        """Wait until JavaScript says true."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            if self.run(f"document.readyState === 'complete' && Boolean({expression})") is True:
                return
            time.sleep(0.1)
        raise TimeoutError(
            f"{expression} never came true on {self.run('location.href')}: {self.text()[:800]}"
        )

    def open(self, url: str) -> None:
        """Open an address and wait until it has loaded."""
        self.send("Page.navigate", url=url)
        self.wait("document.body && location.href !== 'about:blank'")

    def text(self) -> str:
        """Return the text that a person sees."""
        return str(self.run("document.body ? document.body.innerText : ''"))

    def sees(self, words: str) -> None:
        """Wait until the words are on the page."""
        self.wait(f"document.body.innerText.includes({json.dumps(words)})")

    def click(self, selector: str) -> None:
        """Click the middle of an element with the mouse, as a person does."""
        found = f"document.querySelector({json.dumps(selector)})"
        self.wait(f"{found} && {found}.getClientRects().length")
        box = self.run(
            f"(() => {{ const e = {found}; e.scrollIntoView({{block: 'center'}});"
            " const r = e.getBoundingClientRect(); return [r.x + r.width / 2, r.y + r.height / 2]; })()"
        )
        for kind in ("mousePressed", "mouseReleased"):
            self.send("Input.dispatchMouseEvent", type=kind, x=box[0], y=box[1], button="left", clickCount=1)

    def type(self, selector: str, words: str) -> None:
        """Put the cursor into a field and type."""
        self.click(selector)
        self.wait(f"document.activeElement === document.querySelector({json.dumps(selector)})")
        self.send("Input.insertText", text=words)

    def picture(self, path: Path, *, whole: bool = False) -> None:
        """Save what is seen (or the whole page) as PNG."""
        if whole:
            self._resize(self._size[0], int(self.run("document.documentElement.scrollHeight")))
        shot = self.send("Page.captureScreenshot", format="png")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(base64.b64decode(shot["data"]))
