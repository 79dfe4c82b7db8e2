"""For all tests: what they start must be able to end by a signal."""

from __future__ import annotations

import signal

# A shell ignores SIGINT for what it runs in the background, and whatever is started from there inherits it.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
