//! Plain sockets inside namespaces: what a preset does is told by them, not by our own programs.

use std::io;
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::time::Duration;

use socket2::{Domain, SockRef, Socket, Type};

use crate::namespace::Namespace;

/// How long something may take that should happen at once; long, because the machine may be busy.
pub(crate) const SOON: Duration = Duration::from_secs(10);

pub(crate) fn listen(namespace: &Namespace, at: SocketAddr) -> TcpListener {
    let socket = namespace.run(|| bound(at)).unwrap_or_else(|e| panic!("bind {at}: {e}"));
    socket.listen(1024).unwrap();
    socket.into()
}

/// Like [`TcpListener::accept`], but not for ever.
pub(crate) fn accept(
    listener: &TcpListener,
    within: Duration,
) -> io::Result<(TcpStream, SocketAddr)> {
    SockRef::from(listener).set_read_timeout(Some(within))?;
    listener.accept()
}

/// Connects from the local port, 0 for any.
pub(crate) fn dial(
    namespace: &Namespace,
    from: SocketAddr,
    to: SocketAddr,
    within: Duration,
) -> io::Result<TcpStream> {
    let socket = namespace.run(|| bound(from))?;
    socket.connect_timeout(&to.into(), within)?;
    let stream = TcpStream::from(socket);
    stream.set_read_timeout(Some(SOON))?;
    stream.set_write_timeout(Some(SOON))?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

/// Like [`dial`], without waiting for the end.
pub(crate) fn begin_dial(
    namespace: &Namespace,
    from: SocketAddr,
    to: SocketAddr,
) -> io::Result<Socket> {
    let socket = namespace.run(|| bound(from))?;
    socket.set_nonblocking(true)?;
    match socket.connect(&to.into()) {
        Err(e) if e.raw_os_error() != Some(libc::EINPROGRESS) => Err(e),
        _ => Ok(socket),
    }
}

/// A socket of the calling thread's namespace that shares its port.
fn bound(local: SocketAddr) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(local), Type::STREAM, None)?;
    socket.set_reuse_port(true)?;
    socket.bind(&local.into())?;
    Ok(socket)
}

pub(crate) fn at(address: impl Into<IpAddr>, port: u16) -> SocketAddr {
    SocketAddr::new(address.into(), port)
}
