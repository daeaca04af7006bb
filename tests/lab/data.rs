//! What is sent through a connection and looked for at its other end.

use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::mpsc::{self, Receiver};
use std::thread::{self, JoinHandle};
use std::time::Instant;

use socket2::SockRef;

use crate::namespace::Namespace;
use crate::sockets::{SOON, listen};

/// Bytes that no compression and no misplaced block can imitate.
pub(crate) fn noise(seed: u64, length: usize) -> Vec<u8> {
    let mut bytes = vec![0; length];
    fastrand::Rng::with_seed(seed).fill(&mut bytes);
    bytes
}

pub(crate) fn median<T: Copy + PartialOrd>(values: &mut [T]) -> T {
    values.sort_by(|a, b| a.partial_cmp(b).expect("comparable"));
    values[values.len() / 2]
}

/// A service behind a peer: takes `expected` bytes from each client, then gives `answer`, then
/// waits for the client's end before it ends its own.
pub(crate) struct Exchange {
    listener: TcpListener,
    visits: Receiver<io::Result<Visit>>,
    thread: Option<JoinHandle<()>>,
}

/// One client's connection.
pub(crate) struct Visit {
    pub(crate) first_byte: Instant,
    pub(crate) received: Vec<u8>,
}

impl Exchange {
    pub(crate) fn start(
        namespace: &Namespace,
        address: SocketAddr,
        expected: usize,
        answer: Vec<u8>,
    ) -> Self {
        let listener = listen(namespace, address);
        let clients = listener.try_clone().unwrap();
        let (report, visits) = mpsc::channel();
        let serve_all = move || {
            // Ends when the listener is shut down.
            while let Ok((client, _)) = clients.accept() {
                let (report, answer) = (report.clone(), answer.clone());
                // Nobody listens for the report when the test is over.
                thread::spawn(move || drop(report.send(serve(&client, expected, &answer))));
            }
        };
        Self { listener, visits, thread: Some(thread::spawn(serve_all)) }
    }

    /// The next client that is done.
    pub(crate) fn visit(&self) -> Visit {
        let visit = self.visits.recv_timeout(SOON).expect("no client was done in time");
        visit.expect("the client's connection broke")
    }
}

impl Drop for Exchange {
    fn drop(&mut self) {
        // On Linux this wakes accept() with an error.
        let _ = SockRef::from(&self.listener).shutdown(Shutdown::Both);
        let _ = self.thread.take().unwrap().join();
    }
}

fn serve(client: &TcpStream, expected: usize, answer: &[u8]) -> io::Result<Visit> {
    let mut client = client;
    client.set_read_timeout(Some(SOON))?;
    client.set_write_timeout(Some(SOON))?;
    let mut received = vec![0; expected];
    client.read_exact(&mut received[..1])?;
    let first_byte = Instant::now();
    client.read_exact(&mut received[1..])?;
    client.write_all(answer)?;
    let surplus = client.read_to_end(&mut received)?;
    assert_eq!(surplus, 0, "more bytes than were sent");
    client.shutdown(Shutdown::Write)?;
    Ok(Visit { first_byte, received })
}
