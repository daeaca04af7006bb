//! The system calls that no crate of ours wraps. The only `unsafe` of the library beside `ffi`.
#![allow(unsafe_code)]

use std::io;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd, RawFd};

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

/// Has the kernel keep the ICMP errors that come for a socket, for [`take_icmp_error`].
///
/// # Errors
/// What setsockopt(2) says.
#[cfg(target_os = "linux")]
pub fn keep_icmp_errors(socket: &impl AsRawFd, ipv6: bool) -> io::Result<()> {
    let (level, option) = match ipv6 {
        false => (libc::IPPROTO_IP, libc::IP_RECVERR),
        true => (libc::IPPROTO_IPV6, libc::IPV6_RECVERR),
    };
    let on: libc::c_int = 1;
    let length = size_of_val(&on) as libc::socklen_t;
    // SAFETY: `on` is valid for reads of `length` bytes.
    let result = unsafe {
        libc::setsockopt(socket.as_raw_fd(), level, option, (&raw const on).cast(), length)
    };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Whether an ICMP error has come for a socket. TCP keeps those that come while it dials
/// (`tcp_v4_err`, `tcp_v6_err`).
#[cfg(target_os = "linux")]
pub fn take_icmp_error(socket: &impl AsRawFd) -> bool {
    let mut control = [0u64; 32];
    // SAFETY: an all-zero msghdr is a valid one: no name, no data, no control buffer.
    let mut message: libc::msghdr = unsafe { std::mem::zeroed() };
    message.msg_control = control.as_mut_ptr().cast();
    message.msg_controllen = size_of_val(&control) as _;
    let flags = libc::MSG_ERRQUEUE | libc::MSG_DONTWAIT;
    // SAFETY: `message` names one buffer, `control`, which is aligned for cmsghdr and valid for writes of
    // its length.
    if unsafe { libc::recvmsg(socket.as_raw_fd(), &raw mut message, flags) } < 0 {
        return false;
    }
    // SAFETY: the kernel has filled `control` with whole messages, and `message` says how far.
    let mut header = unsafe { libc::CMSG_FIRSTHDR(&raw const message) };
    while !header.is_null() {
        // SAFETY: it is not null, so it points to a whole header within `control`.
        let (level, kind) = unsafe { ((*header).cmsg_level, (*header).cmsg_type) };
        let is_error = matches!(
            (level, kind),
            (libc::IPPROTO_IP, libc::IP_RECVERR) | (libc::IPPROTO_IPV6, libc::IPV6_RECVERR)
        );
        if is_error {
            // SAFETY: messages of these types carry a sock_extended_err, which may be unaligned here.
            let error: libc::sock_extended_err = unsafe {
                libc::CMSG_DATA(header).cast::<libc::sock_extended_err>().read_unaligned()
            };
            let icmp = [libc::SO_EE_ORIGIN_ICMP, libc::SO_EE_ORIGIN_ICMP6];
            return icmp.contains(&error.ee_origin);
        }
        // SAFETY: `header` came from the same message.
        header = unsafe { libc::CMSG_NXTHDR(&raw const message, header) };
    }
    false
}

/// Elsewhere what connect() says must do.
///
/// # Errors
/// Always `Unsupported`.
#[cfg(not(target_os = "linux"))]
pub fn keep_icmp_errors(_: &impl AsRawFd, _: bool) -> io::Result<()> {
    Err(io::ErrorKind::Unsupported.into())
}

/// Elsewhere there is no queue of errors.
#[cfg(not(target_os = "linux"))]
pub fn take_icmp_error(_: &impl AsRawFd) -> bool {
    false
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

/// The two ends of a pipe.
#[derive(Debug)]
pub struct PipeEnds {
    /// Where it is read.
    pub read: OwnedFd,
    /// Where it is written.
    pub write: OwnedFd,
}

/// A pipe that doesn't block and isn't inherited, for [`splice`].
///
/// # Errors
/// What pipe2(2) says; `Unsupported` where there is no splice(2).
#[cfg(target_os = "linux")]
pub fn pipe() -> io::Result<PipeEnds> {
    let mut ends = [-1; 2];
    // SAFETY: `ends` is valid for writes of two descriptors.
    if unsafe { libc::pipe2(ends.as_mut_ptr(), libc::O_NONBLOCK | libc::O_CLOEXEC) } != 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: pipe2 has opened both, and nobody else knows them.
    let [read, write] = ends.map(|end| unsafe { OwnedFd::from_raw_fd(end) });
    Ok(PipeEnds { read, write })
}

/// Asks for a pipe's size, in bytes. Returns the size that it has now; the kernel rounds up.
///
/// # Errors
/// What fcntl(2) says: EPERM when the user's pipes hold too many pages already.
#[cfg(target_os = "linux")]
pub fn set_pipe_size(pipe: &impl AsFd, bytes: usize) -> io::Result<usize> {
    let size = libc::c_int::try_from(bytes).map_err(|_| io::ErrorKind::InvalidInput)?;
    let fd = pipe.as_fd().as_raw_fd();
    // SAFETY: the call takes an integer, and changes no memory of ours.
    let result = unsafe { libc::fcntl(fd, libc::F_SETPIPE_SZ, size) };
    usize::try_from(result).map_err(|_| io::Error::last_os_error())
}

/// Moves bytes between a socket and a pipe without copying them here. `Ok(0)` is the end of what is
/// read. Never blocks.
///
/// A socket whose other end is gone raises SIGPIPE, which Rust's runtime ignores; a program with
/// another `main` has to ignore it, too.
///
/// # Errors
/// What splice(2) says: `WouldBlock`, and EINVAL where a descriptor can't be spliced.
#[cfg(target_os = "linux")]
pub fn splice(from: &impl AsFd, to: &impl AsFd, bytes: usize) -> io::Result<usize> {
    let (from, to) = (from.as_fd().as_raw_fd(), to.as_fd().as_raw_fd());
    let (here, flags) = (std::ptr::null_mut(), libc::SPLICE_F_NONBLOCK | libc::SPLICE_F_MOVE);
    // SAFETY: both descriptors are open for the length of the call, and null means no offsets.
    let result = unsafe { libc::splice(from, here, to, here, bytes, flags) };
    usize::try_from(result).map_err(|_| io::Error::last_os_error())
}

/// Elsewhere bytes are copied.
///
/// # Errors
/// Always `Unsupported`.
#[cfg(not(target_os = "linux"))]
pub fn pipe() -> io::Result<PipeEnds> {
    Err(io::ErrorKind::Unsupported.into())
}

/// Elsewhere bytes are copied.
///
/// # Errors
/// Always `Unsupported`.
#[cfg(not(target_os = "linux"))]
pub fn set_pipe_size(_: &impl AsFd, _: usize) -> io::Result<usize> {
    Err(io::ErrorKind::Unsupported.into())
}

/// Elsewhere bytes are copied.
///
/// # Errors
/// Always `Unsupported`.
#[cfg(not(target_os = "linux"))]
pub fn splice(_: &impl AsFd, _: &impl AsFd, _: usize) -> io::Result<usize> {
    Err(io::ErrorKind::Unsupported.into())
}

/// A socket on which the kernel says that addresses or IPv4 routes of this machine have changed
/// (rtnetlink(7)). It doesn't block and isn't inherited. What is read from it need not be understood:
/// look at the interfaces. ENOBUFS says that something was lost.
///
/// # Errors
/// What socket(2) and bind(2) say; `Unsupported` where there is no netlink.
#[cfg(target_os = "linux")]
pub fn network_notices() -> io::Result<OwnedFd> {
    let kind = libc::SOCK_RAW | libc::SOCK_NONBLOCK | libc::SOCK_CLOEXEC;
    // SAFETY: the call takes integers alone.
    let fd = unsafe { libc::socket(libc::AF_NETLINK, kind, libc::NETLINK_ROUTE) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: socket has opened it, and nobody else knows it.
    let socket = unsafe { OwnedFd::from_raw_fd(fd) };
    // SAFETY: an all-zero sockaddr_nl is a valid one: it holds integers alone.
    let mut address: libc::sockaddr_nl = unsafe { std::mem::zeroed() };
    address.nl_family = libc::AF_NETLINK as libc::sa_family_t;
    let groups = libc::RTMGRP_IPV4_IFADDR | libc::RTMGRP_IPV6_IFADDR | libc::RTMGRP_IPV4_ROUTE;
    address.nl_groups = groups as u32;
    let length = size_of_val(&address) as libc::socklen_t;
    // SAFETY: `address` is valid for reads of `length` bytes.
    match unsafe { libc::bind(fd, (&raw const address).cast(), length) } {
        0 => Ok(socket),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Elsewhere nothing is noticed.
///
/// # Errors
/// Always `Unsupported`.
#[cfg(not(target_os = "linux"))]
pub fn network_notices() -> io::Result<OwnedFd> {
    Err(io::ErrorKind::Unsupported.into())
}
