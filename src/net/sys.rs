//! The system calls that no crate of ours wraps. The only `unsafe` of the library beside `ffi`.
#![allow(unsafe_code)]

use std::io;
use std::os::fd::{AsRawFd, RawFd};

/// Whether a TCP socket whose connect() reported an error is still trying, or has even connected.
///
/// An ICMP error that arrives while connect() runs is reported by SO_ERROR, but the kernel goes on
/// sending SYNs: such a socket is still a hole, and must not be closed.
pub fn is_connection_alive(socket: &impl AsRawFd) -> bool {
    const ESTABLISHED: u8 = 1;
    const SYN_SENT: u8 = 2;
    const SYN_RECV: u8 = 3;
    matches!(tcp_state(socket.as_raw_fd()), Ok(ESTABLISHED | SYN_SENT | SYN_RECV))
}

#[cfg(target_os = "linux")]
fn tcp_state(fd: RawFd) -> io::Result<u8> {
    // SAFETY: an all-zero tcp_info is a valid one: it holds integers alone.
    let mut info: libc::tcp_info = unsafe { std::mem::zeroed() };
    let mut length = size_of_val(&info) as libc::socklen_t;
    // SAFETY: `info` is valid for writes of `length` bytes, which the kernel does not exceed.
    let result = unsafe {
        libc::getsockopt(
            fd,
            libc::IPPROTO_TCP,
            libc::TCP_INFO,
            (&raw mut info).cast(),
            &raw mut length,
        )
    };
    if result == 0 { Ok(info.tcpi_state) } else { Err(io::Error::last_os_error()) }
}

/// Elsewhere an error in SYN_SENT ends the attempt.
#[cfg(not(target_os = "linux"))]
fn tcp_state(_: RawFd) -> io::Result<u8> {
    Err(io::ErrorKind::Unsupported.into())
}

/// How many descriptors this process may have open.
///
/// # Errors
/// What getrlimit(2) says.
pub fn descriptor_limit() -> io::Result<u64> {
    limits_of_descriptors().map(|limit| limit.rlim_cur)
}

fn limits_of_descriptors() -> io::Result<libc::rlimit> {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: `limit` is valid for writes.
    match unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit) } {
        0 => Ok(limit),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Raises the soft limit of open descriptors to the hard one, and returns it. Only the process's own
/// limit changes.
///
/// # Errors
/// What getrlimit(2) says.
pub fn raise_descriptor_limit() -> io::Result<u64> {
    let limit = limits_of_descriptors()?;
    let wanted = libc::rlimit { rlim_cur: limit.rlim_max, ..limit };
    // SAFETY: `wanted` is valid for reads. If it is refused, the old limit stands.
    let raised = unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &raw const wanted) } == 0;
    Ok(if raised { wanted.rlim_cur } else { limit.rlim_cur })
}

/// Lets whoever reads our standard output see its end while this process goes on. What is printed
/// later goes nowhere.
///
/// # Errors
/// What open(2) of /dev/null and dup2(2) say.
pub fn close_stdout() -> io::Result<()> {
    let null = std::fs::File::options().write(true).open("/dev/null")?;
    // SAFETY: both descriptors are open, and nothing in Rust owns 1: the standard library takes it to
    // be always open, and so it stays.
    let result = unsafe { libc::dup2(null.as_raw_fd(), libc::STDOUT_FILENO) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}
