//! The system calls that std does not wrap: all of the lab's unsafe code.

#![allow(unsafe_code)]

use std::ffi::c_int;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::process::CommandExt;
use std::process::Command;
use std::ptr;
use std::time::Duration;

pub(crate) fn is_root() -> bool {
    // SAFETY: takes nothing, cannot fail.
    unsafe { libc::geteuid() == 0 }
}

/// Moves the calling thread into a new, empty network namespace.
pub(crate) fn unshare_network() -> io::Result<()> {
    // SAFETY: no memory is involved.
    check(unsafe { libc::unshare(libc::CLONE_NEWNET) }).map(drop)
}

/// Moves the calling thread into the network namespace behind `namespace`.
pub(crate) fn enter_network(namespace: BorrowedFd<'_>) -> io::Result<()> {
    // SAFETY: the descriptor is borrowed, hence open.
    check(unsafe { libc::setns(namespace.as_raw_fd(), libc::CLONE_NEWNET) }).map(drop)
}

/// Has the command run in the namespace, and die with the thread that starts it.
pub(crate) fn confine(command: &mut Command, namespace: BorrowedFd<'_>) {
    let namespace = namespace.as_raw_fd();
    let prepare = move || {
        // SAFETY: both are plain system calls, allowed between fork and exec.
        check(unsafe { libc::setns(namespace, libc::CLONE_NEWNET) })?;
        check(unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) })?;
        Ok(())
    };
    // SAFETY: the closure allocates nothing and takes no lock.
    unsafe { command.pre_exec(prepare) };
}

/// Asks a process to end.
pub(crate) fn terminate(process: u32) -> io::Result<()> {
    // SAFETY: no memory is involved.
    check(unsafe { libc::kill(process as libc::pid_t, libc::SIGTERM) }).map(drop)
}

/// A new TUN device in the calling thread's namespace: whole IP packets, one per read and write.
/// It vanishes when the descriptor is closed.
pub(crate) fn open_tun(name: &str) -> io::Result<File> {
    let tun = OpenOptions::new()
        .read(true)
        .write(true)
        .custom_flags(libc::O_NONBLOCK)
        .open("/dev/net/tun")?;
    // SAFETY: all zeroes is a valid ifreq.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    for (to, from) in request.ifr_name.iter_mut().zip(name.bytes().take(libc::IFNAMSIZ - 1)) {
        *to = from as libc::c_char;
    }
    request.ifr_ifru.ifru_flags = (libc::IFF_TUN | libc::IFF_NO_PI) as libc::c_short;
    // SAFETY: TUNSETIFF reads and writes one ifreq, which outlives the call.
    check(unsafe { libc::ioctl(tun.as_raw_fd(), libc::TUNSETIFF, ptr::from_mut(&mut request)) })?;
    Ok(tun)
}

/// Timers of the calling thread fire on time instead of up to 50 µs late.
pub(crate) fn want_exact_timers() {
    // SAFETY: no memory is involved; a failure leaves the default slack.
    unsafe { libc::prctl(libc::PR_SET_TIMERSLACK, 1) };
}

/// Waits until one of the descriptors is readable or closed, with nanoseconds in the timeout.
pub(crate) struct Poller(Vec<libc::pollfd>);

impl Poller {
    pub(crate) fn new(descriptors: impl Iterator<Item = RawFd>) -> Self {
        Self(descriptors.map(|fd| libc::pollfd { fd, events: libc::POLLIN, revents: 0 }).collect())
    }

    pub(crate) fn wait(&mut self, timeout: Option<Duration>) -> io::Result<()> {
        let timeout = timeout.map(|t| libc::timespec {
            tv_sec: t.as_secs() as libc::time_t,
            tv_nsec: t.subsec_nanos() as libc::c_long,
        });
        let timeout = timeout.as_ref().map_or(ptr::null(), ptr::from_ref);
        let count = self.0.len() as libc::nfds_t;
        // SAFETY: the array and the timespec outlive the call.
        check(unsafe { libc::ppoll(self.0.as_mut_ptr(), count, timeout, ptr::null()) }).map(drop)
    }

    pub(crate) fn is_ready(&self, index: usize) -> bool {
        self.0[index].revents != 0
    }
}

/// The state of a TCP socket, such as [`SYN_SENT`].
pub(crate) fn tcp_state(socket: BorrowedFd<'_>) -> io::Result<u8> {
    // SAFETY: all zeroes is a valid tcp_info.
    let mut info: libc::tcp_info = unsafe { std::mem::zeroed() };
    let mut length = size_of::<libc::tcp_info>() as libc::socklen_t;
    let (level, name) = (libc::IPPROTO_TCP, libc::TCP_INFO);
    let buffer = ptr::from_mut(&mut info).cast();
    // SAFETY: writes at most `length` bytes into the structure, which outlives the call.
    check(unsafe { libc::getsockopt(socket.as_raw_fd(), level, name, buffer, &mut length) })?;
    Ok(info.tcpi_state)
}

/// States of TCP sockets (include/net/tcp_states.h).
pub(crate) const SYN_SENT: u8 = 2;
pub(crate) const SYN_RECV: u8 = 3;

/// A descriptor that becomes readable when the process ends.
pub(crate) fn open_process(pid: u32) -> io::Result<OwnedFd> {
    // SAFETY: returns a new descriptor or an error.
    let fd = unsafe { libc::syscall(libc::SYS_pidfd_open, pid as libc::pid_t, 0) };
    let fd = check(fd as c_int)?;
    // SAFETY: the descriptor is new, and nobody else's.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

fn check(result: c_int) -> io::Result<c_int> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}
