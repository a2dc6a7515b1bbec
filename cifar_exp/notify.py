"""Messages about sweeps, runs and reviews to the services that Apprise knows: mail, Slack, Teams, ntfy and others.

The addresses of the receivers hold their secrets. They come only from the environment, are not stored, and are
never shown in a log line or an error.
"""

from __future__ import annotations

import atexit
import logging
import os
import time
from functools import cache
from pathlib import Path
from queue import Full, Queue
from threading import Thread
from types import ModuleType

from cifar_exp.errors import UserError
from cifar_exp.importing import is_installed

log = logging.getLogger(__name__)

ADDRESSES, FILE = "CIFAR_EXP_NOTIFY", "CIFAR_EXP_NOTIFY_FILE"

_MOST_WAITING = 100  # messages; more are dropped, so that a dead receiver never fills the memory of a server
_EXIT_WITHIN = 10.0  # seconds that the end of the program waits for messages that are being sent


def addresses() -> list[str]:
    """The receivers: Apprise's addresses in the environment variable, and those in the file that the other one names.

    They are separated by white space. A line of the file that begins with # is a comment.

    Raises:
        UserError: if the file cannot be read.
    """
    text = os.environ.get(ADDRESSES, "")
    if path := os.environ.get(FILE):
        try:
            lines = Path(path).read_text().splitlines()
        except (OSError, UnicodeError) as error:
            raise UserError(f"{FILE}: {path} cannot be read") from error
        text = "\n".join([text, *(line for line in lines if not line.lstrip().startswith("#"))])
    return text.split()


def has_receivers() -> bool:
    """Whether `send` has something to do, or to warn of: a file of addresses that cannot be read."""
    try:
        return bool(addresses())
    except UserError:
        return True


def mistake() -> str | None:
    """The first mistake in the addresses, as one line that shows none of them; None if there is none.

    It stops no training: a message is worth less than what it tells of.
    """
    try:
        found = addresses()
    except UserError as error:
        return f"{error}: no messages are sent"
    if found and not is_installed("apprise"):
        return f"{ADDRESSES} needs apprise (pip install 'cifar-exp[notify]'): no messages are sent"
    for number, address in enumerate(found, 1):
        if not _apprise().Apprise().add(address):
            of_all = f"address {number} of {len(found)}"
            return f"{ADDRESSES}: {of_all} is of no form that Apprise knows: no messages are sent to it"
    return None


def send(title: str, body: str = "") -> None:
    """Send a message to all receivers, in the background. It never fails and never waits.

    Args:
        title: one line.
        body: plain text.
    """
    try:
        receivers = addresses()
        if receivers:
            _queue().put_nowait((receivers, title, body))
    except (UserError, Full) as error:
        log.warning("A message was not sent: %s", error or "too many wait")


def send_once(folder: Path, event: str, title: str, body: str = "") -> None:
    """Send a message unless one about the same event was sent before.

    Args:
        folder: remembers the event; processes that share it send one message.
        event: what it is about.
        title: one line.
        body: plain text.
    """
    try:
        if not addresses():
            return
        (folder / f".notified-{event}").touch(exist_ok=False)
    except (FileExistsError, UserError):  # `mistake` has told of addresses that cannot be read
        return
    except OSError as error:
        log.debug("%s cannot remember what was sent: %s", folder, error)
    send(title, body)


@cache
def _queue() -> Queue[tuple[list[str], str, str]]:
    queue: Queue[tuple[list[str], str, str]] = Queue(_MOST_WAITING)
    Thread(target=_deliver, args=(queue,), name="notify", daemon=True).start()
    atexit.register(_wait, queue)
    return queue


def _deliver(queue: Queue[tuple[list[str], str, str]]) -> None:
    while True:
        receivers, title, body = queue.get()
        for number, address in enumerate(receivers, 1):
            try:
                apprise = _apprise()
                one = apprise.Apprise()
                delivered = one.add(address) and one.notify(
                    body or title, title if body else "", body_format=apprise.NotifyFormat.TEXT
                )
            except Exception:  # its message may show the address
                delivered = False
            if not delivered:
                log.warning("A message did not reach receiver %d of %d: %s", number, len(receivers), title)
        queue.task_done()


def _wait(queue: Queue[tuple[list[str], str, str]]) -> None:
    until = time.monotonic() + _EXIT_WITHIN
    with queue.all_tasks_done:
        while queue.unfinished_tasks and (left := until - time.monotonic()) > 0:
            queue.all_tasks_done.wait(left)


def _apprise() -> ModuleType:
    import apprise

    logging.getLogger("apprise").disabled = True  # its lines show addresses
    return apprise
