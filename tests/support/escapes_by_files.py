"""Ways out of a confinement by files and by what a process inherits."""
# The ways are system calls; pathlib hides them.
# ruff: noqa: PTH101, PTH104, PTH108, PTH116, PTH119, PTH120, PTH123, PTH208, PTH211

from __future__ import annotations

import ctypes
import fcntl
import os
import sqlite3
import stat
import sys
import threading
from pathlib import Path

from escape_ways import Refused, call, fails, in_child, read, run, unchanged, way


# --- files -----------------------------------------------------------------------------------------------
@way
def open_a_file(c):
    read(c.secret)


@way
def open_it_by_a_relative_path(c):
    folder = os.open(c.own, os.O_RDONLY)
    os.close(os.open(os.path.relpath(c.secret, c.own), os.O_RDONLY, dir_fd=folder))


@way
def open_it_through_a_link_in_a_readable_folder(c):
    read(c.link)


@way
def open_it_through_proc_self_root(c):
    read(f"/proc/self/root{c.secret}")


@way
def open_it_again_by_a_path_descriptor(c):
    read(f"/proc/self/fd/{os.open(c.secret, os.O_PATH)}")


@way
def open_it_below_a_folder_descriptor(c):
    folder = os.open(os.path.dirname(c.secret), os.O_PATH | os.O_DIRECTORY)
    os.close(os.open(os.path.basename(c.secret), os.O_RDONLY, dir_fd=folder))


@way
def open_it_with_openat2(c):
    how = (ctypes.c_uint64 * 3)(0, 0, 0)
    os.close(call(437, 437, ctypes.c_int(-100), c.secret.encode(), how, ctypes.c_size_t(24)))


@way
def open_it_in_a_thread(c):
    found = []
    thread = threading.Thread(target=lambda: found.append(fails(lambda: read(c.secret))))
    thread.start()
    thread.join()
    if found[0]:
        raise Refused(found[0])


@way
def open_it_in_a_child(c):
    in_child(lambda: read(c.secret))


@way
def open_it_in_another_python(c):
    run([sys.executable, "-c", f"open({c.secret!r}).read()"])


@way
def open_it_in_rust(c):
    import polars as pl

    try:
        pl.read_parquet(c.table)
    except pl.exceptions.ComputeError as error:
        raise Refused(str(error)) from None


@way
def open_it_in_c(c):
    sqlite3.connect(c.database).execute("SELECT * FROM rows").fetchall()


@way
def open_it_by_a_handle(c):
    handle, mount = ctypes.create_string_buffer(136), ctypes.c_int()
    handle[0:4] = (128).to_bytes(4, sys.byteorder)
    call(303, 264, -100, c.secret.encode(), handle, ctypes.byref(mount), 0)
    folder = os.open(os.path.dirname(c.secret), os.O_RDONLY)
    os.close(call(304, 265, folder, handle, 0))


@way
def list_a_folder(c):
    os.listdir(os.path.dirname(c.secret))


@way
def list_the_repository_with_its_code(c):
    os.listdir(c.repository)


@way
def read_a_hidden_file_of_a_readable_folder(c):
    read(c.hidden)


@way
def watch_a_folder(c):
    watch = call(294, 26, 0)
    call(254, 27, watch, os.path.dirname(c.secret).encode(), ctypes.c_uint32(0xFFF))


@way
def watch_a_folder_with_fanotify(c):
    os.close(call(300, 262, 0x200, 0))


@way
def read_the_users_list(c):
    read("/etc/passwd")


@way
def read_the_connections_of_the_machine(c):
    read("/proc/self/net/unix")


@way
def list_the_processes(c):
    os.listdir("/proc")


@way
def write_a_file(c):
    with open(c.secret, "a") as file:
        file.write(" ")


@way
def create_a_file(c):
    Path(c.outside, "new").write_text("x")


@way
def create_a_file_without_a_name(c):
    os.close(os.open(c.outside, os.O_TMPFILE | os.O_RDWR))


@way
def create_a_folder(c):
    Path(c.outside, "folder").mkdir()


@way
def empty_a_file_by_its_path(c):
    os.truncate(c.emptied, 0)


@way
def delete_a_file(c):
    os.unlink(c.deleted)


@way
def rename_a_file_in(c):
    os.rename(c.renamed, f"{c.own}/in")


@way
def rename_a_file_out(c):
    Path(c.own, "out").write_text("x")
    os.rename(f"{c.own}/out", f"{c.outside}/out")


@way
def exchange_two_files(c):
    Path(c.own, "mine").write_text("x")
    call(316, 276, -100, f"{c.own}/mine".encode(), -100, c.exchanged.encode(), 2)


@way
def link_a_file_in(c):
    os.link(c.secret, f"{c.own}/linked")
    read(f"{c.own}/linked")


@way
def link_a_file_in_by_a_path_descriptor(c):
    descriptor = os.open(c.secret, os.O_PATH)
    folder = os.open(c.own, os.O_RDONLY)  # with it Python lets the system follow the link
    os.link(f"/proc/self/fd/{descriptor}", "linked_by_descriptor", dst_dir_fd=folder)


@way
def write_a_readable_file(c):
    os.close(os.open(c.input, os.O_RDWR))


@way
def empty_a_readable_file_by_opening_it(c):
    os.close(os.open(c.kept, os.O_RDONLY | os.O_TRUNC))


@way
def rename_a_readable_file_in(c):
    os.rename(c.moved, f"{c.own}/moved")


@way
def create_a_file_in_a_readable_folder(c):
    Path(c.input).with_name("created").write_text("x")


@way
def create_a_file_in_the_common_temporary_folder(c):
    descriptor = os.open("/tmp", os.O_TMPFILE | os.O_RDWR)
    os.close(descriptor)


@way
def lease_a_readable_file(c):
    """Who opens it for writing would wait until the system takes the lease back."""
    with open(c.input) as file:
        fcntl.fcntl(file, fcntl.F_SETLEASE, fcntl.F_RDLCK)


@way
def link_a_readable_file_in_to_write_it(c):
    os.link(c.input, f"{c.own}/linked_input")
    with open(f"{c.own}/linked_input", "a") as file:
        file.write("x")


@way
def link_a_file_out(c):
    Path(c.own, "linked_out").write_text("x")
    os.link(f"{c.own}/linked_out", f"{c.outside}/linked_out")


@way
def make_a_symbolic_link(c):
    os.symlink(c.secret, f"{c.own}/symbolic")


@way
def make_a_pipe_with_a_name(c):
    os.mkfifo(f"{c.own}/pipe")


@way
def make_a_device(c):
    os.mknod(f"{c.own}/device", 0o600 | 0o020000, os.makedev(1, 3))


@way
def change_a_mode(c):
    before = os.stat(c.secret).st_mode
    os.chmod(c.secret, before ^ 0o044)
    unchanged(before, os.stat(c.secret).st_mode)


@way
def change_the_mode_of_a_readable_file(c):
    before = os.stat(c.input).st_mode
    with open(c.input) as file:
        os.fchmod(file.fileno(), before ^ 0o044)
    unchanged(before, os.stat(c.input).st_mode)


@way
def change_a_mode_with_fchmodat2(c):
    call(452, 452, -100, c.secret.encode(), 0o644, 0)


@way
def change_an_owner(c):
    os.chown(c.secret, os.getuid(), os.getgid())


@way
def change_a_time(c):
    before = os.stat(c.secret).st_mtime_ns
    os.utime(c.secret, (1, 1))
    unchanged(before, os.stat(c.secret).st_mtime_ns)


@way
def set_an_attribute(c):
    os.setxattr(c.secret, "user.note", b"x")


@way
def leave_a_file_in_shared_memory(c):
    path = Path(f"/dev/shm/{os.path.basename(c.outside)}")
    path.write_text("x")
    path.unlink()


@way
def leave_a_shared_segment(c):
    call(29, 194, 0, ctypes.c_size_t(4096), 0o1600)


@way
def leave_a_message_queue(c):
    call(68, 186, 0, 0o1600)


@way
def leave_a_semaphore(c):
    call(64, 190, 0, 1, 0o1600)


@way
def leave_a_posix_message_queue(c):
    name = os.path.basename(c.outside).encode()
    os.close(call(240, 180, name, 0o102, 0o600, None))
    call(241, 181, name)


@way
def leave_a_key_in_the_session(c):
    call(248, 217, b"user", b"workbench-test", b"x", ctypes.c_size_t(1), -3)


@way
def write_to_the_terminal_s_input(c):
    import termios

    _, theirs = os.openpty() if not c.confined else (0, 0)
    fcntl.ioctl(theirs, termios.TIOCSTI, b"x")


@way
def open_a_terminal(c):
    os.close(os.open("/dev/ptmx", os.O_RDWR))


@way
def read_an_inherited_descriptor(c):
    if not os.pread(c.descriptor, 10, 0):
        raise Refused("nothing to read")


@way
def keep_the_starter_s_output(c):
    if not stat.S_ISFIFO(os.fstat(1).st_mode):
        raise Refused("it is another file")


@way
def change_the_code(c):
    os.close(os.open(c.code, os.O_WRONLY))


@way
def change_a_library(c):
    os.close(os.open(c.library, os.O_WRONLY))


@way
def change_what_confines(c):
    os.close(os.open(f"{os.path.dirname(c.own)}/confined.json", os.O_WRONLY | os.O_CREAT))


@way
def change_its_own_attributes(c):
    """The flags that `chattr` sets: one of them makes a file unchangeable."""
    with open(c.input) as file:
        call(16, 29, file.fileno(), ctypes.c_ulong(0x40086602), ctypes.byref(ctypes.c_long(0x40)))


@way
def read_the_starter_s_environment(c):
    if "ESCAPES_SECRET" not in os.environ:
        raise Refused("the variable is not there")
