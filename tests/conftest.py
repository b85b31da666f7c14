"""What holds for all tests."""

import signal

from hypothesis import settings

# A busy machine is no error: no example has a time limit of its own.
settings.register_profile("bitwright", deadline=None)
settings.load_profile("bitwright")


def pytest_configure() -> None:
    """What this process ignores (of nohup, or behind a shell's `&`), its children ignore too; the
    tests that stop commands by signals need the usual ways."""
    for stop in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(stop) is signal.SIG_IGN:
            usual = signal.default_int_handler if stop is signal.SIGINT else signal.SIG_DFL
            signal.signal(stop, usual)
