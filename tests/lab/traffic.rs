//! The connections of others behind the same NAT: what makes a NAT that counts hard to predict.

use std::collections::VecDeque;
use std::io;
use std::net::{IpAddr, Shutdown, TcpListener};
use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::sync::{Arc, Condvar, Mutex};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use socket2::SockRef;

use crate::namespace::Namespace;
use crate::sockets::{at, begin_dial, listen};

const PORT: u16 = 443;

/// How many connections the neighbour has at a time; the eldest ends when another begins.
const AT_A_TIME: usize = 32;

/// Opens connections at random moments, so many a second on average, until it is dropped.
pub(crate) struct Traffic {
    stop: Option<Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Traffic {
    pub(crate) fn start(
        namespace: Namespace,
        from: IpAddr,
        to: IpAddr,
        per_second: u32,
        seed: u64,
    ) -> Self {
        let (stop, stopped) = mpsc::channel();
        let mut random = fastrand::Rng::with_seed(seed);
        let generate = move || {
            let mut open = VecDeque::new();
            let mut next = Instant::now();
            loop {
                // The time between two events of a Poisson process.
                let gap = -(1.0 - random.f64()).ln() / f64::from(per_second);
                next += Duration::from_secs_f64(gap);
                let wait = next.saturating_duration_since(Instant::now());
                if stopped.recv_timeout(wait) == Err(RecvTimeoutError::Disconnected) {
                    return;
                }
                match begin_dial(&namespace, at(from, 0), at(to, PORT)) {
                    Ok(connection) => open.push_back(connection),
                    // A shared port may be chosen a second time, while its first connection lives.
                    Err(e) if e.kind() == io::ErrorKind::AddrNotAvailable => {}
                    Err(e) => panic!("dial the sink: {e}"),
                }
                if open.len() > AT_A_TIME {
                    open.pop_front();
                }
            }
        };
        Self { stop: Some(stop), thread: Some(thread::spawn(generate)) }
    }
}

impl Drop for Traffic {
    fn drop(&mut self) {
        drop(self.stop.take());
        // A panic of the thread has already been printed.
        let _ = self.thread.take().unwrap().join();
    }
}

/// Takes every connection, and ends it when the other side does.
pub(crate) struct Sink {
    listener: TcpListener,
    arrivals: Arc<Arrivals>,
    thread: Option<JoinHandle<()>>,
    _namespace: Namespace,
}

#[derive(Default)]
struct Arrivals {
    count: Mutex<u32>,
    changed: Condvar,
}

impl Sink {
    pub(crate) fn start(namespace: Namespace, address: IpAddr) -> Self {
        let listener = listen(&namespace, at(address, PORT));
        let clients = listener.try_clone().unwrap();
        let arrivals = Arc::new(Arrivals::default());
        let counter = Arc::clone(&arrivals);
        let take_all = move || {
            let mut open = VecDeque::new();
            // Ends when the listener is shut down.
            while let Ok((client, _)) = clients.accept() {
                *counter.count.lock().unwrap() += 1;
                counter.changed.notify_all();
                open.push_back(client);
                if open.len() > 2 * AT_A_TIME {
                    open.pop_front();
                }
            }
        };
        let thread = Some(thread::spawn(take_all));
        Self { listener, arrivals, thread, _namespace: namespace }
    }

    /// How long it takes until so many more have come.
    pub(crate) fn time_for(&self, more: u32, within: Duration) -> Duration {
        let start = Instant::now();
        let count = self.arrivals.count.lock().unwrap();
        let goal = *count + more;
        let wait = self.arrivals.changed.wait_timeout_while(count, within, |n| *n < goal);
        assert!(!wait.unwrap().1.timed_out(), "not {more} connections within {within:?}");
        start.elapsed()
    }
}

impl Drop for Sink {
    fn drop(&mut self) {
        // On Linux this wakes accept() with an error.
        let _ = SockRef::from(&self.listener).shutdown(Shutdown::Both);
        let _ = self.thread.take().unwrap().join();
    }
}
