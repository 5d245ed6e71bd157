"""A ROS domain that no other graph on this machine uses, so that two desks or test runs do not hear each other."""

from __future__ import annotations

import fcntl
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

from myrvm_core.errors import RvmError

DOMAINS = range(1, 102)  # all ports below Linux's ephemeral ones: ROS 2 documentation, "The ROS_DOMAIN_ID"


@contextmanager
def claim_domain() -> Generator[int, None, None]:
    """Hold a free domain for the length of the context; the kernel frees it when the process dies.

    Raises:
        RvmError: all are taken.
    """
    folder = Path("/tmp/myrvm-domains")  # not TMPDIR: a domain is the whole machine's
    folder.mkdir(mode=0o777, exist_ok=True)
    for domain in reversed(DOMAINS):  # people who choose one by hand begin at the low end
        with (folder / str(domain)).open("a") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                continue
            yield domain
            return
    raise RvmError(f"all ROS domains {DOMAINS.start} .. {DOMAINS.stop - 1} are in use (locks in {folder})")
