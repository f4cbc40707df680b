"""Where these packages run; imported first, before what fails elsewhere and says less (docs/platforms.md)."""

import sys

# What holds others off rests on POSIX: owners, modes, openat(2), O_NOFOLLOW, flock(2), unix sockets, fork(2).
if sys.platform == "win32":
    raise ImportError(
        "the Kernel Data Relay runs on Linux and macOS, not on Windows itself; run Jupyter with its kernels, and this "
        "package, in the Windows Subsystem for Linux: wsl --install",
        name="hub",
    )
