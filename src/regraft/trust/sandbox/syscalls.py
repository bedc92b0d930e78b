"""System calls of Linux on x86-64: what a sandboxed process may ask of the kernel, and what is refused by name.

Found by tracing imports, loading and passes of torch, transformers and ONNX Runtime; whatever is on neither list does
not exist for the process, as on an older kernel. Source: Linux 6.18, arch/x86/entry/syscalls/syscall_64.tbl.
"""

from __future__ import annotations

ALLOWED = {
    # files: which ones is for Landlock to say
    "read": 0, "write": 1, "open": 2, "close": 3, "stat": 4, "fstat": 5, "lstat": 6, "poll": 7, "lseek": 8,
    "pread64": 17, "pwrite64": 18, "readv": 19, "writev": 20, "access": 21, "pipe": 22, "select": 23, "dup": 32,
    "dup2": 33, "sendfile": 40, "flock": 73, "fsync": 74, "fdatasync": 75, "truncate": 76,
    "ftruncate": 77, "getdents": 78, "getcwd": 79, "chdir": 80, "fchdir": 81, "rename": 82, "mkdir": 83, "rmdir": 84,
    "unlink": 87, "readlink": 89, "umask": 95, "statfs": 137, "fstatfs": 138, "readahead": 187, "getdents64": 217,
    "fadvise64": 221, "epoll_wait": 232, "epoll_ctl": 233, "openat": 257, "mkdirat": 258, "newfstatat": 262,
    "unlinkat": 263, "renameat": 264, "readlinkat": 267, "faccessat": 269, "pselect6": 270, "ppoll": 271,
    "epoll_pwait": 281, "fallocate": 285, "eventfd2": 290, "epoll_create1": 291, "dup3": 292, "pipe2": 293,
    "preadv": 295, "pwritev": 296, "renameat2": 316, "copy_file_range": 326, "statx": 332, "close_range": 436,
    "faccessat2": 439,
    # memory; `mmap` has a condition
    "mprotect": 10, "munmap": 11, "brk": 12, "mremap": 25, "msync": 26, "mincore": 27, "madvise": 28, "mlock": 149,
    "munlock": 150, "get_mempolicy": 239, "membarrier": 324,
    # the process itself and its threads; the calls named below have conditions
    "rt_sigaction": 13, "rt_sigprocmask": 14, "rt_sigreturn": 15, "sched_yield": 24, "pause": 34, "nanosleep": 35,
    "getitimer": 36, "alarm": 37, "setitimer": 38, "getpid": 39, "exit": 60, "wait4": 61, "uname": 63,
    "gettimeofday": 96, "getrlimit": 97, "getrusage": 98, "sysinfo": 99, "times": 100, "getuid": 102, "getgid": 104,
    "geteuid": 107, "getegid": 108, "getppid": 110, "getpgrp": 111, "getgroups": 115, "getresuid": 118,
    "getresgid": 120, "getpgid": 121, "getsid": 124, "rt_sigpending": 127, "rt_sigtimedwait": 128,
    "sigaltstack": 131, "getpriority": 140, "sched_getparam": 143, "sched_getscheduler": 145,
    "arch_prctl": 158, "gettid": 186, "time": 201, "futex": 202, "sched_getaffinity": 204, "set_tid_address": 218,
    "restart_syscall": 219, "clock_gettime": 228, "clock_getres": 229, "clock_nanosleep": 230, "exit_group": 231,
    "waitid": 247, "set_robust_list": 273, "get_robust_list": 274, "getcpu": 309, "getrandom": 318, "rseq": 334,
}  # fmt: skip
"""Name → number."""

MMAP, IOCTL, CLONE, KILL, FCNTL, PRCTL, TGKILL, PRLIMIT64 = 9, 16, 56, 62, 72, 157, 234, 302
"""Allowed under a condition."""

REFUSED = {
    # the network, and every other way to another process
    "socket": 41, "connect": 42, "accept": 43, "sendto": 44, "recvfrom": 45, "sendmsg": 46, "recvmsg": 47, "bind": 49,
    "listen": 50, "socketpair": 53, "accept4": 288, "shmget": 29, "semget": 64, "msgget": 68, "mq_open": 240,
    "memfd_create": 319, "pidfd_open": 434, "pidfd_getfd": 438, "pidfd_send_signal": 424, "tkill": 200,
    "rt_sigqueueinfo": 129, "rt_tgsigqueueinfo": 297, "ptrace": 101, "process_vm_readv": 310,
    "process_vm_writev": 311, "kcmp": 312,
    # other programs
    "fork": 57, "vfork": 58, "execve": 59, "execveat": 322,
    # who owns what, and what Landlock does not cover
    "chmod": 90, "fchmod": 91, "chown": 92, "fchown": 93, "lchown": 94, "fchmodat": 268, "fchownat": 260,
    "fchmodat2": 452, "link": 86, "linkat": 265, "symlink": 88, "symlinkat": 266, "mknod": 133, "mknodat": 259,
    "setxattr": 188, "lsetxattr": 189, "fsetxattr": 190, "utime": 132, "utimes": 235, "utimensat": 280,
    "futimesat": 261, "open_by_handle_at": 304, "name_to_handle_at": 303,
    # the machine
    "mount": 165, "umount2": 166, "pivot_root": 155, "chroot": 161, "unshare": 272, "setns": 308, "reboot": 169,
    "swapon": 167, "init_module": 175, "finit_module": 313, "delete_module": 176, "kexec_load": 246,
    "sethostname": 170, "settimeofday": 164, "clock_settime": 227, "bpf": 321, "perf_event_open": 298,
    "userfaultfd": 323, "keyctl": 250, "add_key": 248, "request_key": 249, "personality": 135, "syslog": 103,
    "setuid": 105, "setgid": 106, "setresuid": 117, "setresgid": 119, "setpriority": 141, "setrlimit": 160,
    "sched_setaffinity": 203,
}  # fmt: skip
"""Name → number; these fail with EPERM, so that a library that tries one says what it was not allowed to do."""
