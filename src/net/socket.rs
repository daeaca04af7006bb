//! Sockets as punching needs them: many on one local port, non-blocking, and honest about errors.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use mio::net::{TcpListener, TcpStream, UdpSocket};
use socket2::{Domain, Protocol, SockRef, Socket, TcpKeepalive, Type};

use super::sys;
use crate::limits;
use crate::proto::punch::DialError;
use crate::wire::message::DialBackEnd;
use crate::wire::portmap::CLIENT_PORT;

/// Connections that the kernel accepts before we do. A reconnect storm fills a short queue; the
/// kernel cuts this at net.core.somaxconn.
const BACKLOG: i32 = 4096;

/// A listener on a port of its own, for a server. A second process can't share it by mistake.
///
/// # Errors
/// What bind(2) and listen(2) say.
pub fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = new_socket(address)?;
    // Lets a server that restarts bind while old connections are in TIME_WAIT.
    socket.set_reuse_address(true)?;
    // For the connections that it accepts: see `adopt`.
    keep_alive(&socket)?;
    bind_and_listen(socket, address)
}

/// Sets what [`keep_alive`] sets on a connection that came from [`listen`]. On Linux it has all of it from
/// its listener, which saves five system calls each.
///
/// # Errors
/// What setsockopt(2) says.
pub fn adopt(stream: &TcpStream) -> io::Result<()> {
    match cfg!(target_os = "linux") {
        true => Ok(()),
        false => keep_alive(stream),
    }
}

/// A listener on a port that other sockets of ours share: SO_REUSEPORT on every one of them, before
/// bind. One socket without it would poison the port.
///
/// # Errors
/// What bind(2) and listen(2) say.
pub fn listen_shared(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = new_socket(address)?;
    socket.set_reuse_port(true)?;
    bind_and_listen(socket, address)
}

fn bind_and_listen(socket: Socket, address: SocketAddr) -> io::Result<TcpListener> {
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(TcpListener::from_std(socket.into()))
}

/// Begins to connect, from a shared local port if it is not 0.
///
/// # Errors
/// What connect(2) says at once, EINPROGRESS apart.
pub fn dial(local_port: u16, to: SocketAddr) -> io::Result<TcpStream> {
    let socket = new_socket(to)?;
    if local_port != 0 {
        socket.set_reuse_port(true)?;
        socket.bind(&SocketAddr::new(unspecified(to), local_port).into())?;
    }
    socket.set_tcp_nodelay(true)?;
    connect(socket, to)
}

/// Begins to connect from a fresh local port that others may share.
///
/// # Errors
/// What bind(2) says, or connect(2) at once, EINPROGRESS apart.
pub fn dial_from_shared_port(to: SocketAddr) -> io::Result<TcpStream> {
    let socket = new_socket(to)?;
    socket.set_reuse_port(true)?;
    socket.bind(&SocketAddr::new(unspecified(to), 0).into())?;
    socket.set_tcp_nodelay(true)?;
    connect(socket, to)
}

/// Begins to connect from an address of ours and a port of the kernel's choice. What ICMP says about it is
/// kept for [`refusal`].
///
/// # Errors
/// What bind(2) says, or connect(2) at once, EINPROGRESS apart.
pub fn dial_from(ip: IpAddr, to: SocketAddr) -> io::Result<TcpStream> {
    let socket = new_socket(to)?;
    if let Err(error) = sys::keep_icmp_errors(&socket, to.is_ipv6()) {
        log::debug!("IP_RECVERR: {error}");
    }
    socket.bind(&SocketAddr::new(ip, 0).into())?;
    connect(socket, to)
}

fn connect(socket: Socket, to: SocketAddr) -> io::Result<TcpStream> {
    match socket.connect(&to.into()) {
        Ok(()) => {}
        Err(error) if error.raw_os_error() == Some(libc::EINPROGRESS) => {}
        Err(error) => return Err(error),
    }
    Ok(TcpStream::from_std(socket.into()))
}

/// The address of ours from which the kernel would connect to another one now. Nothing is sent.
///
/// # Errors
/// What connect(2) of a datagram socket says: there may be no way.
pub fn source_address(to: SocketAddr) -> io::Result<IpAddr> {
    let socket = std::net::UdpSocket::bind((unspecified(to), 0))?;
    socket.connect(to)?;
    Ok(socket.local_addr()?.ip())
}

/// A socket for datagrams.
///
/// # Errors
/// What bind(2) says.
pub fn datagrams(address: SocketAddr) -> io::Result<UdpSocket> {
    UdpSocket::bind(address)
}

/// Hears what routers tell all clients of port mapping on our own network (RFC 6887 §14.1.1), beside
/// other programs that do.
///
/// # Errors
/// What bind(2) and setsockopt(2) say.
pub fn announcements(own: IpAddr, scope: u32) -> io::Result<UdpSocket> {
    let own = SocketAddr::new(own, CLIENT_PORT);
    let socket = Socket::new(Domain::for_address(own), Type::DGRAM, Some(Protocol::UDP))?;
    socket.set_nonblocking(true)?;
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(true)?;
    if own.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    socket.bind(&SocketAddr::new(unspecified(own), CLIENT_PORT).into())?;
    match own.ip() {
        IpAddr::V4(ip) => socket.join_multicast_v4(&ALL_HOSTS_V4, &ip)?,
        IpAddr::V6(_) => socket.join_multicast_v6(&ALL_HOSTS_V6, scope)?,
    }
    Ok(UdpSocket::from_std(socket.into()))
}

const ALL_HOSTS_V4: Ipv4Addr = Ipv4Addr::new(224, 0, 0, 1);
const ALL_HOSTS_V6: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);

/// A local port that is held for dials which share it.
#[derive(Debug)]
pub struct Reserved {
    port: u16,
    /// Bound, and nothing else: nobody reaches it.
    _socket: Socket,
}

impl Reserved {
    /// The port.
    pub fn port(&self) -> u16 {
        self.port
    }
}

/// Takes a local port of the kernel's choice, of the family of `to`, so that [`dial`] can go out from it
/// again and again.
///
/// # Errors
/// What bind(2) says.
pub fn reserve(to: SocketAddr) -> io::Result<Reserved> {
    let socket = new_socket(to)?;
    socket.set_reuse_port(true)?;
    socket.bind(&SocketAddr::new(unspecified(to), 0).into())?;
    let local = socket.local_addr()?.as_socket();
    let port = local.ok_or(io::ErrorKind::AddrNotAvailable)?.port();
    Ok(Reserved { port, _socket: socket })
}

/// What a SYN of [`dial_from`] drew, when the dial has failed with `error`. An RST and an ICMP error look
/// alike in connect(): the queue of errors tells them apart.
pub fn refusal(stream: &TcpStream, error: &io::Error) -> DialBackEnd {
    if sys::take_icmp_error(stream) {
        return DialBackEnd::Icmp;
    }
    match error.raw_os_error() {
        Some(libc::ECONNREFUSED | libc::ECONNRESET) => DialBackEnd::Rst,
        Some(libc::EHOSTUNREACH | libc::ENETUNREACH | libc::ENOPROTOOPT) => DialBackEnd::Icmp,
        _ if error.kind() == io::ErrorKind::TimedOut => DialBackEnd::Silence,
        _ => DialBackEnd::NotMade,
    }
}

/// What became of a dial.
#[derive(Debug)]
pub enum Dialled {
    /// Still connecting: wait for the next event.
    Pending,
    /// It stands.
    Established {
        /// Our end.
        local: SocketAddr,
        /// The other end.
        remote: SocketAddr,
    },
    /// It failed.
    Failed(io::Error),
}

/// Looks at a dial after an event.
///
/// Writability alone proves nothing: a socket whose connect() failed at once polls writable with no
/// error. And an error need not be the end, see [`sys::is_connection_alive`].
pub fn look_at_dial(stream: &TcpStream) -> Dialled {
    if let Some(error) = stream.take_error().unwrap_or_else(Some)
        && !sys::is_connection_alive(stream)
    {
        return Dialled::Failed(error);
    }
    match (stream.peer_addr(), stream.local_addr()) {
        (Ok(remote), Ok(local)) => Dialled::Established { local, remote },
        (Err(error), _) if error.kind() == io::ErrorKind::NotConnected => {
            if sys::is_connection_alive(stream) {
                Dialled::Pending
            } else {
                Dialled::Failed(error)
            }
        }
        (Err(error), _) | (_, Err(error)) => Dialled::Failed(error),
    }
}

/// The meaning of an error of connect() for a punch. `at_once` when connect() itself returned it.
pub fn dial_error(error: &io::Error, at_once: bool) -> DialError {
    match error.raw_os_error() {
        Some(libc::ECONNREFUSED | libc::ECONNRESET) => DialError::Refused,
        Some(libc::EADDRNOTAVAIL) => DialError::Taken,
        Some(libc::ENETUNREACH | libc::EHOSTUNREACH | libc::EACCES | libc::EPERM) if at_once => {
            DialError::NoRoute
        }
        Some(libc::ENETUNREACH | libc::EHOSTUNREACH | libc::ENOPROTOOPT) => DialError::Unreachable,
        Some(libc::ETIMEDOUT) => DialError::TimedOut,
        Some(libc::EMFILE | libc::ENFILE | libc::ENOBUFS | libc::ENOMEM | libc::EAGAIN) => {
            DialError::Exhausted
        }
        _ => DialError::Other,
    }
}

/// Whether accept(2) failed because this machine has no more of something: pause and try again.
pub fn is_exhaustion(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EMFILE | libc::ENFILE | libc::ENOBUFS | libc::ENOMEM))
}

/// Whether a listener still rests, however many knock meanwhile; clears a pause that is over.
pub fn is_paused(until: &mut Option<std::time::Instant>, now: std::time::Instant) -> bool {
    *until = until.filter(|until| now < *until);
    until.is_some()
}

/// Lets the kernel notice a peer that is gone, so that no timer of ours ticks for it.
///
/// # Errors
/// What setsockopt(2) says.
pub fn keep_alive<'s>(socket: impl Into<SockRef<'s>>) -> io::Result<()> {
    let socket = socket.into();
    socket.set_tcp_nodelay(true)?;
    socket.set_tcp_keepalive(
        &TcpKeepalive::new()
            .with_time(limits::KEEPALIVE_IDLE)
            .with_interval(limits::KEEPALIVE_INTERVAL)
            .with_retries(3),
    )?;
    #[cfg(target_os = "linux")]
    socket.set_tcp_user_timeout(Some(limits::USER_TIMEOUT))?;
    Ok(())
}

/// Closes with an RST: whoever reads the other end learns that something was lost, and no TIME_WAIT
/// is left here.
pub fn abort(stream: &TcpStream) {
    if let Err(error) = SockRef::from(stream).set_linger(Some(std::time::Duration::ZERO)) {
        log::debug!("SO_LINGER: {error}");
    }
}

/// The unspecified address of the same family.
pub fn unspecified(address: SocketAddr) -> IpAddr {
    match address {
        SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    }
}

fn new_socket(address: SocketAddr) -> io::Result<Socket> {
    let (domain, protocol) = (Domain::for_address(address), Some(Protocol::TCP));
    // In one system call where there is one for it: a birthday opens hundreds.
    #[cfg(target_os = "linux")]
    let socket = Socket::new(domain, Type::STREAM.nonblocking(), protocol)?;
    #[cfg(not(target_os = "linux"))]
    let socket = Socket::new(domain, Type::STREAM, protocol)?;
    #[cfg(not(target_os = "linux"))]
    socket.set_nonblocking(true)?;
    if address.is_ipv6() {
        // One port holds a listener of each family.
        socket.set_only_v6(true)?;
    }
    Ok(socket)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_adopted_connection_notices_a_peer_that_is_gone() {
        let listener = listen((Ipv4Addr::LOCALHOST, 0).into()).unwrap();
        let client = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        // The kernel has finished its handshake when connect(2) returns.
        let (stream, remote) = listener.accept().unwrap();
        assert_eq!(remote, client.local_addr().unwrap());
        adopt(&stream).unwrap();
        let socket = SockRef::from(&stream);
        assert!(socket.tcp_nodelay().unwrap() && socket.keepalive().unwrap());
        assert_eq!(socket.tcp_keepalive_time().unwrap(), limits::KEEPALIVE_IDLE);
        assert_eq!(socket.tcp_keepalive_interval().unwrap(), limits::KEEPALIVE_INTERVAL);
        #[cfg(target_os = "linux")]
        assert_eq!(socket.tcp_user_timeout().unwrap(), Some(limits::USER_TIMEOUT));
    }
}
