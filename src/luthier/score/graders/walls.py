"""The walls around foreign Python: Linux namespaces, limits and a filter of system calls, put up from the inside.

It runs in `python -I -S` and imports the standard library only. Any step that fails ends the process: nothing runs
without walls. What is left after them: read-only libraries, an empty folder in memory, one core, no network, no other
process, no privilege.
"""

import ctypes
import errno
import os
import platform
import resource
import struct
from pathlib import Path

LIBC = ctypes.CDLL(None, use_errno=True)
NOBODY = 65534
# From linux/sched.h: user, mount, network, process, IPC and host-name namespaces.
NAMESPACES = 0x10000000 | 0x00020000 | 0x40000000 | 0x20000000 | 0x08000000 | 0x04000000
# From linux/mount.h.
RDONLY, NOSUID, NODEV, REMOUNT, BIND, PRIVATE, RELATIME, DETACH = 1, 2, 4, 32, 4096, (1 << 18) | (1 << 14), 1 << 21, 2
ROOT = Path("/proc")
"""Where the new root is put together: a folder that every Linux has, hidden in this process only."""
SCRATCH = "tmp"
# From linux/prctl.h.
PR_SET_PDEATHSIG, PR_SET_DUMPABLE, PR_SET_SECCOMP, PR_CAPBSET_DROP, PR_SET_NO_NEW_PRIVS = 1, 4, 22, 24, 38


def _checked(result: int, what: str) -> int:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{what}: {os.strerror(number)}")
    return result


def _mount(source: str, target: Path, kind: str | None, flags: int, data: str | None = None) -> None:
    encoded = [None if text is None else text.encode() for text in (source, str(target), kind, data)]
    source_, target_, kind_, data_ = encoded
    _checked(LIBC.mount(source_, target_, kind_, ctypes.c_ulong(flags), data_), f"mount {target}")


def prctl(option: int, value: int) -> None:
    """Set one property of this process; raises OSError."""
    _checked(LIBC.prctl(option, ctypes.c_ulong(value), 0, 0, 0), f"prctl {option}")


def leave() -> None:
    """Enter namespaces of our own; the process that started this one then writes the maps of users."""
    prctl(PR_SET_PDEATHSIG, 9)
    _checked(LIBC.unshare(NAMESPACES), "unshare")
    _checked(LIBC.sethostname(b"grader", 6), "sethostname")


def build_root(libraries: list[str], *, scratch_bytes: int) -> None:
    """Make a root that holds the given folders, read-only, and a `/tmp` with nothing else in it; forget the old one."""
    _mount("none", Path("/"), None, PRIVATE)
    _mount("root", ROOT, "tmpfs", NOSUID | NODEV, "size=1m,mode=755")
    (ROOT / SCRATCH).mkdir()
    _mount("scratch", ROOT / SCRATCH, "tmpfs", NOSUID | NODEV, f"size={scratch_bytes},nr_inodes=1024,mode=777")
    # After the scratch: an environment may itself lie under `/tmp`.
    for folder in libraries:
        _show(folder)
    _mount("none", ROOT, None, REMOUNT | BIND | RDONLY | NOSUID | NODEV)

    # The old root is stacked over the new one, and taken away.
    os.chdir(ROOT)
    _checked(LIBC.pivot_root(b".", b"."), "pivot_root")
    _checked(LIBC.umount2(b".", DETACH), "umount")
    os.chdir(f"/{SCRATCH}")


def _show(folder: str) -> None:
    source, target = Path(folder), ROOT / folder.lstrip("/")
    if source.is_symlink():
        target.parent.mkdir(parents=True, exist_ok=True)
        target.symlink_to(source.readlink())
        return
    target.mkdir(parents=True, exist_ok=True)
    _mount(folder, target, None, BIND)
    # What the system has closed on this mount (no devices, …) must stay closed, or the kernel refuses.
    kept = os.statvfs(folder).f_flag
    relatime = RELATIME if kept & 4096 else 0
    _mount("none", target, None, REMOUNT | BIND | RDONLY | NOSUID | NODEV | (kept & (8 | 1024 | 2048)) | relatime)


def drop_privileges(*, as_nobody: bool) -> None:
    """Give up every capability, for good, and root's name where the service runs as root."""
    for capability in range(64):
        if LIBC.prctl(PR_CAPBSET_DROP, capability, 0, 0, 0) < 0 and ctypes.get_errno() == errno.EINVAL:
            break
    if as_nobody:
        os.setgroups([])
        os.setresgid(NOBODY, NOBODY, NOBODY)
        os.setresuid(NOBODY, NOBODY, NOBODY)
    # Version 3 of the header, this process; all three sets empty.
    nothing = ctypes.create_string_buffer(24)
    _checked(LIBC.capset(struct.pack("Ii", 0x20080522, 0), nothing), "capset")
    prctl(PR_SET_NO_NEW_PRIVS, 1)
    prctl(PR_SET_DUMPABLE, 0)
    # Changing users forgets it, so it is said again.
    prctl(PR_SET_PDEATHSIG, 9)


def set_limits(*, cpu_s: int, memory_bytes: int, file_bytes: int) -> None:
    """Bound time, memory, files and processes, so that they cannot be raised again."""
    limits = {
        resource.RLIMIT_CPU: cpu_s,
        resource.RLIMIT_AS: memory_bytes,
        resource.RLIMIT_FSIZE: file_bytes,
        resource.RLIMIT_NOFILE: 64,
        resource.RLIMIT_NPROC: 1,
        resource.RLIMIT_CORE: 0,
        resource.RLIMIT_MSGQUEUE: 0,
        resource.RLIMIT_MEMLOCK: 0,
    }
    for which, value in limits.items():
        resource.setrlimit(which, (value, value))


# System calls that grading never needs, by number: processes and threads; other programs; sockets; memory that no limit
# counts; tracing and signals; namespaces and mounts; kernel doors with a history.
_DENIED = {
    "x86_64": (
        *(56, 57, 58, 59, 322, 435),  # clone fork vfork execve execveat clone3
        *(41, 42, 43, 49, 50, 53, 288),  # socket connect accept bind listen socketpair accept4
        *(29, 30, 31, 64, 65, 66, 68, 69, 70, 71, 319, 447),  # shm* sem* msg* memfd_create memfd_secret
        *(101, 310, 311, 312, 424, 434, 438, 440),  # ptrace process_vm_* kcmp pidfd_* process_madvise
        *(
            62,
            129,
            200,
            234,
            297,
            109,
            112,
            157,
        ),  # kill rt_sigqueueinfo tkill tgkill rt_tgsigqueueinfo setpgid setsid prctl
        *(155, 161, 165, 166, 272, 308),  # pivot_root chroot mount umount2 unshare setns
        *(428, 429, 430, 431, 432, 433, 442),  # open_tree move_mount fsopen fsconfig fsmount fspick mount_setattr
        *(
            248,
            249,
            250,
            298,
            303,
            304,
        ),  # add_key request_key keyctl perf_event_open name_to_handle_at open_by_handle_at
        *(317, 321, 323, 425, 426, 427),  # seccomp bpf userfaultfd io_uring_*
    ),
    "aarch64": (
        *(220, 221, 281, 435),  # clone execve execveat clone3
        *(198, 199, 200, 201, 202, 203, 242),  # socket socketpair bind listen accept connect accept4
        *(186, 187, 188, 189, 190, 191, 192, 193, 194, 195, 196, 279, 447),  # msg* sem* shm* memfd_create memfd_secret
        *(117, 270, 271, 272, 424, 434, 438, 440),  # ptrace process_vm_* kcmp pidfd_* process_madvise
        *(
            129,
            130,
            131,
            138,
            240,
            154,
            157,
            167,
        ),  # kill tkill tgkill rt_sigqueueinfo rt_tgsigqueueinfo setpgid setsid prctl
        *(39, 40, 41, 51, 97, 268),  # umount2 mount pivot_root chroot unshare setns
        *(428, 429, 430, 431, 432, 433, 442),  # open_tree move_mount fsopen fsconfig fsmount fspick mount_setattr
        *(
            217,
            218,
            219,
            241,
            264,
            265,
        ),  # add_key request_key keyctl perf_event_open name_to_handle_at open_by_handle_at
        *(277, 280, 282, 425, 426, 427),  # seccomp bpf userfaultfd io_uring_*
    ),
}
_ARCHITECTURES = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}


def filter_calls() -> None:
    """Let the kernel refuse (EPERM) the system calls that grading never needs; raises OSError on unknown machines."""
    machine = platform.machine()
    if machine not in _DENIED:
        raise OSError(errno.ENOSYS, f"no list of system calls for {machine}")
    numbers = sorted(set(_DENIED[machine]))
    load, equal, at_least, give = 0x20, 0x15, 0x35, 0x06
    allow, refuse, kill = 0x7FFF0000, 0x00050000 | errno.EPERM, 0x80000000
    steps = [
        (load, 0, 0, 4),
        (equal, 1, 0, _ARCHITECTURES[machine]),
        (give, 0, 0, kill),
        (load, 0, 0, 0),
        # Numbers from here on are the x32 twin of each call.
        (at_least, len(numbers) + 1, 0, 0x40000000),
        *((equal, len(numbers) - place, 0, number) for place, number in enumerate(numbers)),
        (give, 0, 0, allow),
        (give, 0, 0, refuse),
    ]
    code = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *step) for step in steps))
    program = struct.pack("HP", len(steps), ctypes.addressof(code))
    _checked(LIBC.prctl(PR_SET_SECCOMP, ctypes.c_ulong(2), program, 0, 0), "seccomp")
