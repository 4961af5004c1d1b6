"""Ways out of a confinement by the network, other processes, programs and the system."""
# The ways are system calls; pathlib hides them.
# ruff: noqa: PTH115

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import mmap
import os
import resource
import signal
import socket
import sys
import time
from pathlib import Path

from escape_ways import LIBC, NO_SUCH_CALL, Refused, call, in_child, read, run, unchanged, way


# --- network ---------------------------------------------------------------------------------------------
@way
def connect_over_tcp(c):
    socket.create_connection(("127.0.0.1", c.tcp), timeout=2).close()


@way
def connect_over_tcp_in_a_child(c):
    in_child(lambda: socket.create_connection(("127.0.0.1", c.tcp), timeout=2))


@way
def connect_over_tcp_by_number(c):
    os.close(call(41, 198, 2, 1, 0))


@way
def send_a_datagram(c):
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp:
        udp.sendto(b"x", ("127.0.0.1", c.tcp))


@way
def listen_on_tcp(c):
    socket.create_server(("127.0.0.1", 0)).close()


@way
def open_a_version_6_socket(c):
    socket.socket(socket.AF_INET6).close()


@way
def ask_the_kernel_over_netlink(c):
    socket.socket(socket.AF_NETLINK, socket.SOCK_RAW).close()


@way
def open_a_crypto_socket(c):
    socket.socket(socket.AF_ALG, socket.SOCK_SEQPACKET).close()


@way
def open_a_vsock(c):
    socket.socket(socket.AF_VSOCK, socket.SOCK_STREAM).close()


@way
def open_a_packet_socket(c):
    socket.socket(socket.AF_PACKET, socket.SOCK_RAW).close()


@way
def connect_to_a_unix_socket(c):
    with socket.socket(socket.AF_UNIX) as unix:
        unix.connect(c.unix)


@way
def connect_to_an_abstract_socket(c):
    with socket.socket(socket.AF_UNIX) as unix:
        unix.connect("\0" + c.abstract)


@way
def send_to_a_unix_datagram_socket(c):
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as unix:
        unix.sendto(b"x", c.datagram)


@way
def send_elsewhere_from_a_pair_of_datagram_sockets(c):
    one, _ = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    one.sendto(b"x", c.datagram)


@way
def send_elsewhere_from_a_pair_of_packet_sockets(c):
    one, other = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with contextlib.suppress(OSError):
        one.sendto(b"x", c.datagram)
    raise Refused(f"it went to {other.recv(1)!r}")


@way
def bind_a_unix_socket_outside(c):
    with socket.socket(socket.AF_UNIX) as unix:
        unix.bind(f"{c.outside}/socket")


@way
def connect_with_io_uring(c):
    os.close(call(425, 425, 4, ctypes.create_string_buffer(120)))


@way
def ask_a_unix_socket_for_the_machine_s_addresses(c):
    """SIOCGIFCONF without room for an answer: the system says how long the list is."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as asked:
        fcntl.ioctl(asked, 0x8912, bytes(16))


@way
def resolve_a_name(c):
    if c.confined:
        socket.getaddrinfo("example.org", 80)


# --- other processes -------------------------------------------------------------------------------------
@way
def ask_whether_a_process_lives(c):
    os.kill(c.victim, 0)


@way
def signal_a_process(c):
    os.kill(c.victim, signal.SIGCONT)


@way
def signal_the_starter(c):
    os.kill(os.getppid(), signal.SIGCONT)


@way
def signal_all(c):
    """The victim counts this signal too; `kill` itself says that it succeeded."""
    if c.confined:  # without confinement each stopped process of the user would go on
        before = read(c.counter)
        os.kill(-1, signal.SIGCONT)
        time.sleep(0.1)
        unchanged(before, read(c.counter))


@way
def signal_a_thread(c):
    call(234, 131, c.victim, c.victim, int(signal.SIGCONT))


@way
def signal_by_a_process_descriptor(c):
    signal.pidfd_send_signal(os.pidfd_open(c.victim), signal.SIGCONT)


@way
def queue_a_signal(c):
    call(129, 138, c.victim, int(signal.SIGCONT), (ctypes.c_int * 32)(int(signal.SIGCONT), 0, -1))


@way
def signal_as_the_owner_of_a_pipe(c):
    """The victim of this way counts the signals that it gets."""
    before = read(c.counter)
    ours, theirs = socket.socketpair()
    fcntl.fcntl(ours, fcntl.F_SETOWN, c.victim)
    fcntl.fcntl(ours, fcntl.F_SETFL, os.O_ASYNC)
    theirs.send(b"x")
    time.sleep(0.1)
    unchanged(before, read(c.counter))


@way
def read_the_memory_of_a_process(c):
    os.close(os.open(f"/proc/{c.victim}/mem", os.O_RDONLY))


@way
def read_the_environment_of_a_process(c):
    read(f"/proc/{c.victim}/environ")


@way
def read_the_environment_of_the_starter(c):
    read(f"/proc/{os.getppid()}/environ")


@way
def read_the_command_line_of_a_process(c):
    read(f"/proc/{c.victim}/cmdline")


@way
def read_where_a_process_is(c):
    os.readlink(f"/proc/{c.victim}/cwd")


@way
def trace_a_process(c):
    seize = (ctypes.c_long(0x4206), ctypes.c_long(c.victim), None, None)
    in_child(lambda: call(101, 117, *seize))


@way
def copy_memory_of_a_process(c):
    buffer = ctypes.create_string_buffer(8)
    local = (ctypes.c_void_p * 2)(ctypes.addressof(buffer), 8)
    remote = (ctypes.c_void_p * 2)(c.address, 8)
    n = ctypes.c_ulong
    call(310, 270, c.victim, local, n(1), remote, n(1), n(0))


@way
def take_a_descriptor_of_a_process(c):
    os.close(call(438, 438, os.pidfd_open(c.victim), 0, 0))


@way
def limit_a_process(c):
    resource.prlimit(c.victim, resource.RLIMIT_CORE, (0, resource.RLIM_INFINITY))


@way
def slow_a_process(c):
    os.setpriority(os.PRIO_PROCESS, c.victim, 1)


@way
def slow_a_process_by_its_scheduler(c):
    before = os.sched_getscheduler(c.victim)
    os.sched_setscheduler(c.victim, os.SCHED_BATCH, os.sched_param(0))
    unchanged(before, os.sched_getscheduler(c.victim))


@way
def pin_a_process(c):
    before = os.sched_getaffinity(c.victim)
    os.sched_setaffinity(c.victim, {min(before)})
    unchanged(before, os.sched_getaffinity(c.victim))


@way
def compare_descriptors_of_a_process(c):
    n = ctypes.c_ulong
    call(312, 272, os.getpid(), c.victim, 0, n(0), n(0))


@way
def lead_a_session(c):
    in_child(os.setsid)


@way
def leave_the_group(c):
    in_child(os.setpgrp)


# --- programs --------------------------------------------------------------------------------------------
@way
def run_a_program(c):
    run([c.cat, c.secret])


@way
def run_a_shell(c):
    run(["true"], shell=True)


@way
def run_a_script_of_our_own(c):
    path = Path(c.own, "script")
    path.write_text("#!/bin/sh\ntrue\n")
    path.chmod(0o700)
    run([str(path)])


@way
def run_a_program_of_our_own(c):
    path = Path(c.own, "program")
    fd = os.open(path, os.O_WRONLY | os.O_CREAT, 0o700)
    os.write(fd, Path(os.path.realpath(sys.executable)).read_bytes())
    os.close(fd)
    run([str(path), "-I", "-S", "-c", ""])


@way
def run_a_program_by_the_loader(c):
    run([c.loader, c.cat, c.secret])


@way
def run_a_program_by_a_path_descriptor(c):
    program = os.open(c.true, os.O_PATH)
    in_child(lambda: os.execv(f"/proc/self/fd/{program}", ["true"]))


@way
def run_a_program_from_memory(c):
    descriptor = call(319, 279, b"x", 0)
    os.write(descriptor, Path(c.true).read_bytes() if not c.confined else b"x")
    in_child(lambda: os.execv(f"/proc/self/fd/{descriptor}", ["x"]))


@way
def run_a_program_by_a_descriptor(c):
    program = os.open(os.path.realpath(sys.executable), os.O_RDONLY)
    none = ctypes.c_char_p(None)
    arguments = (ctypes.c_char_p * 6)(b"python", b"-I", b"-S", b"-c", b"", None)
    in_child(lambda: call(322, 281, program, b"", arguments, ctypes.byref(none), 0x1000))


# --- the system ------------------------------------------------------------------------------------------
@way
def make_a_user_namespace(c):
    in_child(lambda: call(272, 97, 0x10000000))


@way
def make_a_user_namespace_with_clone(c):
    child = call(56, 220, ctypes.c_ulong(0x10000000 | int(signal.SIGCHLD)), None, None, None, None)
    if not child:
        os._exit(0)
    os.waitpid(child, 0)


@way
def make_a_process_with_clone3(c):
    arguments = (ctypes.c_uint64 * 8)(0, 0, 0, 0, int(signal.SIGCHLD))
    child = call(435, 435, arguments, ctypes.c_size_t(64))
    if not child:
        os._exit(0)
    os.waitpid(child, 0)


@way
def enter_a_namespace(c):
    in_child(lambda: call(308, 268, os.open("/proc/self/ns/uts", os.O_RDONLY), 0))


@way
def mount_a_file_system(c):
    in_child(
        lambda: (
            call(272, 97, 0x20000),
            call(165, 40, b"x", c.own.encode(), b"tmpfs", ctypes.c_ulong(0), None),
        )
    )


@way
def change_the_root(c):
    in_child(lambda: os.chroot(c.own))


@way
def open_a_mount(c):
    os.close(call(428, 428, -100, b"/", ctypes.c_uint(1)))


@way
def load_a_program_into_the_kernel(c):
    array = (ctypes.c_uint32 * 5)(2, 4, 4, 1, 0)
    os.close(call(321, 280, 0, array, 20))


@way
def open_a_performance_counter(c):
    attributes = ctypes.create_string_buffer(128)
    attributes[0:8] = (1).to_bytes(4, sys.byteorder) + (128).to_bytes(4, sys.byteorder)
    os.close(call(298, 241, attributes, 0, -1, -1, ctypes.c_ulong(0)))


@way
def handle_page_faults(c):
    os.close(call(323, 282, 1))


@way
def read_the_kernel_s_messages(c):
    call(103, 116, 10, None, 0)


@way
def become_another_user(c):
    in_child(lambda: os.setuid(65534))


@way
def take_capabilities_back(c):
    header, wanted = (ctypes.c_uint32 * 2)(0x20080522, 0), (ctypes.c_uint32 * 6)(2, 2, 0)
    in_child(lambda: call(126, 91, header, wanted))


@way
def have_a_capability(c):
    lines = dict(line.split(":\t", 1) for line in Path("/proc/self/status").read_text().splitlines())
    if not int(lines["CapEff"], 16) and not int(lines["CapBnd"], 16):
        raise Refused("none left")


@way
def allow_everything_with_landlock(c):
    def widen() -> None:
        rights = (ctypes.c_uint64 * 1)(4)
        ruleset = call(444, 444, rights, ctypes.c_size_t(8), 0)
        rule = (4).to_bytes(8, sys.byteorder) + os.open("/", os.O_PATH).to_bytes(4, sys.byteorder)
        call(445, 445, ruleset, 1, rule, 0)
        LIBC.prctl(38, 1, 0, 0, 0)
        call(446, 446, ruleset, 0)
        read(c.secret)

    in_child(widen)


@way
def call_as_a_32_bit_program(c):
    """`int 0x80` with socketcall's number for getpid, which no table of 64 bits knows."""
    code = mmap.mmap(-1, 4096, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)
    code.write(b"\xb8\x14\x00\x00\x00\xcd\x80\xc3")  # mov eax, 20; int 0x80; ret
    address = ctypes.addressof(ctypes.c_char.from_buffer(code))
    in_child(ctypes.CFUNCTYPE(ctypes.c_int)(address))


@way
def call_with_a_number_of_x32(c):
    call(0x40000000 | 39, 0x40000000 | 39)


@way
def use_a_call_that_is_newer_than_the_tables(c):
    try:
        call(463, 463, -100, b"", 0, b"user.x", None, ctypes.c_size_t(0))  # setxattrat
    except OSError as error:
        if error.errno == NO_SUCH_CALL:
            raise
