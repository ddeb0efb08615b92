"""Become another program, tied to the life of the supervisor: `python -I -S launch.py OPTIONS -- COMMAND...`.

A process of its own instead of a `preexec_fn`: forking out of a process with threads (gRPC, Temporal's core)
may run nothing but async-signal-safe code between fork and exec. Standard library only, so that it costs a
few milliseconds.

On Linux the kernel sends the chosen signal when the supervisor dies, even by kill -9 (prctl(2),
PR_SET_PDEATHSIG). PostgreSQL refuses to run as root; root therefore becomes `--user` first. That user may be
unable to walk down to the data folder (a clone under /root, mode 0700); instead of opening the folders of a
stranger, the process keeps the one capability that lets it pass, as an ambient capability (capabilities(7)).
"""

import argparse
import ctypes
import os
import pwd
import signal
import sys

_PR_SET_PDEATHSIG = 1
_PR_SET_KEEPCAPS = 8
_PR_CAP_AMBIENT = 47
_PR_CAP_AMBIENT_RAISE = 2
_CAP_VERSION_3 = 0x20080522
_CAP_DAC_OVERRIDE = 1
_CAP_DAC_READ_SEARCH = 2
_SYS_CAPSET = {"x86_64": 126, "aarch64": 91}


def _prctl(libc: ctypes.CDLL, *words: int) -> None:
    arguments = [ctypes.c_ulong(word) for word in (*words, 0, 0, 0, 0)[:5]]
    if libc.prctl(*arguments) != 0:
        raise OSError(ctypes.get_errno(), f"prctl{words}")


def _allowed_capabilities() -> int:
    with open("/proc/self/status", encoding="ascii") as status:
        for line in status:
            if line.startswith("CapEff:"):
                return int(line.split()[1], 16)
    return 0


def _keep_capability(libc: ctypes.CDLL, capability: int) -> None:
    """Make one capability survive the exec of an unprivileged program."""
    bits = 1 << capability
    header = (ctypes.c_uint32 * 2)(_CAP_VERSION_3, 0)
    data = (ctypes.c_uint32 * 6)(bits, bits, bits, 0, 0, 0)
    number = _SYS_CAPSET[os.uname().machine]
    if libc.syscall(ctypes.c_long(number), ctypes.byref(header), ctypes.byref(data)) != 0:
        raise OSError(ctypes.get_errno(), "capset")
    _prctl(libc, _PR_CAP_AMBIENT, _PR_CAP_AMBIENT_RAISE, capability)


def _become(libc: ctypes.CDLL, name: str, *, pass_folders: bool) -> None:
    person = pwd.getpwnam(name)
    capability = None
    if pass_folders:
        allowed = _allowed_capabilities()
        choices = [one for one in (_CAP_DAC_READ_SEARCH, _CAP_DAC_OVERRIDE) if allowed >> one & 1]
        if not choices or os.uname().machine not in _SYS_CAPSET:
            raise PermissionError(
                f"user {name} cannot reach the data folder or the programs, and this root may not lend it "
                "the right: put the project into a folder that everybody can enter (chmod o+x)"
            )
        capability = choices[0]
        _prctl(libc, _PR_SET_KEEPCAPS, 1)
    os.setgroups([])
    os.setresgid(person.pw_gid, person.pw_gid, person.pw_gid)
    os.setresuid(person.pw_uid, person.pw_uid, person.pw_uid)
    if capability is not None:
        _keep_capability(libc, capability)


def main(argv: list[str]) -> None:
    """Apply the options, then replace this process by the command."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--parent", type=int, required=True)
    parser.add_argument("--death-signal", type=int, default=int(signal.SIGKILL))
    parser.add_argument("--user")
    parser.add_argument("--pass-folders", action="store_true")
    parser.add_argument("command", nargs=argparse.REMAINDER)
    options = parser.parse_args(argv)
    command = options.command[1:] if options.command[:1] == ["--"] else options.command
    if sys.platform == "linux":
        libc = ctypes.CDLL(None, use_errno=True)
        if options.user:
            _become(libc, options.user, pass_folders=options.pass_folders)
        # After the change of user: a change of credentials forgets the signal.
        _prctl(libc, _PR_SET_PDEATHSIG, options.death_signal)
    if os.getppid() != options.parent:
        sys.exit("the supervisor is gone already")
    os.execvp(command[0], command)


if __name__ == "__main__":
    main(sys.argv[1:])
