//! The event loop: one `Poll`, one table of tokens, one timer queue, on one thread.
//!
//! A turn is: wait, hand each event to its host, then the tokens that were requeued, then the hosts
//! whose time has come, then the mail of helper threads. Each step is bounded: whoever wants more of
//! a socket than its share requeues the token, because an edge does not repeat.

use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::{Duration, Instant};

use mio::event::Source;
use mio::{Events, Interest, Poll, Registry, Token, Waker};
use slab::Slab;

use super::clock;
use super::lag::{Lag, What};
use super::network::{NetworkNotices, Notices};
use super::peer::PeerHost;
use super::rendezvous::RendezvousHost;
use crate::limits;
use crate::proto::timers::Timers;

/// Events taken from the kernel in one turn.
const EVENTS: usize = 1024;

const WAKER: Token = Token(usize::MAX);

/// Of the kernel's notices that the network has changed.
const NETWORK: Token = Token(usize::MAX - 1);

/// A host in a reactor: a rendezvous or a peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct HostId(u32);

/// The owner that means "the application", see [`Reactor::watch`].
const APPLICATION: HostId = HostId(u32::MAX);

/// What a socket is ready for. An error or a hang-up makes it ready for both: the next call tells.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Readiness {
    /// Reading, or accepting.
    pub readable: bool,
    /// Writing, or looking at a dial.
    pub writable: bool,
    /// Reading to the end: the other side has said its last, or nobody knows whether it has.
    pub ended: bool,
}

impl Readiness {
    /// For a token that is requeued to be read on.
    pub const READABLE: Self = Self { readable: true, writable: false, ended: true };

    /// Whether a read of `length` bytes into a larger buffer has taken all that there is. What comes
    /// later, the end included, is an event of its own (epoll(7)), so that there is no need to ask.
    pub fn is_exhausted_by(self, length: usize, buffer: usize) -> bool {
        length < buffer && !self.ended
    }
}

/// What a helper thread has done.
#[derive(Debug)]
pub enum Mail {
    /// A name was looked up.
    Resolved {
        /// What [`Core::resolve`] returned.
        lookup: u64,
        /// Its addresses.
        found: io::Result<Vec<SocketAddr>>,
    },
}

enum Host {
    Rendezvous(Box<RendezvousHost>),
    Peer(Box<PeerHost>),
}

struct Slot {
    generation: u32,
    host: HostId,
    key: usize,
}

/// What hosts need of the reactor: tokens, timers, the read buffer.
pub struct Core {
    registry: Registry,
    slots: Slab<Slot>,
    generation: u32,
    requeued: VecDeque<(Token, Readiness)>,
    delayed: Timers<Token>,
    network: NetworkNotices,
    lookups: u64,
    mail: Sender<(HostId, Mail)>,
    waker: Arc<Waker>,
    scratch: Vec<u8>,
}

impl Core {
    /// Gives a socket a token under which its events come to `host`, with the host's own `key`. Events
    /// of both kinds, on edges: an idle socket never costs another system call.
    ///
    /// # Errors
    /// What epoll_ctl(2) says.
    pub fn register(
        &mut self,
        source: &mut impl Source,
        host: HostId,
        key: usize,
    ) -> io::Result<Token> {
        self.generation = self.generation.wrapping_add(1) & 0x7fff_ffff;
        let generation = self.generation;
        let index = self.slots.insert(Slot { generation, host, key });
        let token = Token((generation as usize) << 32 | index);
        let result = self.registry.register(source, token, Interest::READABLE | Interest::WRITABLE);
        if result.is_err() {
            self.slots.remove(index);
        }
        result.map(|()| token)
    }

    /// Whether bytes that arrive are an event. For a source that isn't read for a while, however much comes:
    /// each packet would wake the thread for nothing. What has arrived by the time when they count again is
    /// an event at once.
    ///
    /// # Errors
    /// What epoll_ctl(2) says.
    pub fn want_reading(
        &self,
        source: &mut impl Source,
        token: Token,
        wanted: bool,
    ) -> io::Result<()> {
        let reading = wanted.then_some(Interest::READABLE);
        let interest = reading.map_or(Interest::WRITABLE, |reading| reading | Interest::WRITABLE);
        self.registry.reregister(source, token, interest)
    }

    /// Takes the token back. An event that is under way for it is dropped.
    pub fn deregister(&mut self, source: &mut impl Source, token: Token) {
        if self.slot(token).is_some() {
            self.slots.remove(index_of(token));
        }
        if let Err(error) = self.registry.deregister(source) {
            log::debug!("deregister: {error}");
        }
    }

    /// Gives the socket to another key, for the events to come.
    pub fn rekey(&mut self, token: Token, key: usize) {
        if self.slot(token).is_some() {
            self.slots[index_of(token)].key = key;
        }
    }

    /// Has the token's host called again in this turn or the next, without a new event.
    pub fn requeue(&mut self, token: Token, readiness: Readiness) {
        self.requeued.push_back((token, readiness));
    }

    /// Has the token's host called for reading after a pause.
    pub fn requeue_at(&mut self, token: Token, at: Instant) {
        self.delayed.set(at, token);
    }

    /// Looks a name up on a helper thread; the answer comes to `host` as [`Mail::Resolved`], with the
    /// number that is returned here. It may come when nobody waits for it any more.
    pub fn resolve(&mut self, host: HostId, name: String, port: u16) -> u64 {
        use std::net::ToSocketAddrs;
        self.lookups += 1;
        let lookup = self.lookups;
        let (mail, waker) = (self.mail.clone(), Arc::clone(&self.waker));
        let look_up = move || {
            let found = (name.as_str(), port).to_socket_addrs().map(Iterator::collect);
            // If the reactor is gone there is nobody to tell.
            if mail.send((host, Mail::Resolved { lookup, found })).is_ok() {
                waker.wake().unwrap_or_else(|error| log::warn!("waker: {error}"));
            }
        };
        if let Err(error) = std::thread::Builder::new().name("gimlet-dns".into()).spawn(look_up) {
            let mailed = self.mail.send((host, Mail::Resolved { lookup, found: Err(error) }));
            debug_assert!(mailed.is_ok(), "the receiver lives as long as the reactor");
            self.waker.wake().unwrap_or_else(|error| log::warn!("waker: {error}"));
        }
        lookup
    }

    /// Has `host` told when this machine's network changes.
    pub fn follow_network(&mut self, host: HostId) {
        self.network.follow(&self.registry, NETWORK, host);
    }

    /// Takes [`Self::follow_network`] back.
    pub fn unfollow_network(&mut self, host: HostId) {
        self.network.unfollow(&self.registry, host);
    }

    fn read_network_notices(&mut self) -> Notices {
        let mut scratch = self.take_scratch();
        let notices = self.network.read(&mut scratch);
        self.put_scratch(scratch);
        notices
    }

    /// The read buffer, to be put back with [`Self::put_scratch`].
    pub fn take_scratch(&mut self) -> Vec<u8> {
        let mut scratch = std::mem::take(&mut self.scratch);
        scratch.resize(limits::SCRATCH_BYTES, 0);
        scratch
    }

    /// Puts the read buffer back.
    pub fn put_scratch(&mut self, scratch: Vec<u8>) {
        self.scratch = scratch;
    }

    /// How many sockets are registered.
    pub fn sockets(&self) -> usize {
        self.slots.len()
    }

    fn slot(&self, token: Token) -> Option<&Slot> {
        self.slots.get(index_of(token)).filter(|slot| slot.generation == generation_of(token))
    }
}

fn index_of(token: Token) -> usize {
    token.0 & 0xffff_ffff
}

fn generation_of(token: Token) -> u32 {
    (token.0 >> 32) as u32
}

struct Entry {
    host: Host,
    armed: Option<Instant>,
}

/// The event loop and its hosts.
pub struct Reactor {
    poll: Poll,
    events: Events,
    core: Core,
    hosts: Slab<Entry>,
    timers: Timers<HostId>,
    mail: Receiver<(HostId, Mail)>,
    application: Vec<usize>,
    lag: Lag,
}

impl Reactor {
    /// An event loop without hosts.
    ///
    /// # Errors
    /// What epoll_create(2) and eventfd(2) say.
    pub fn new() -> io::Result<Self> {
        let poll = Poll::new()?;
        let waker = Arc::new(Waker::new(poll.registry(), WAKER)?);
        let (sender, mail) = channel();
        let core = Core {
            registry: poll.registry().try_clone()?,
            slots: Slab::new(),
            generation: 0,
            requeued: VecDeque::new(),
            delayed: Timers::new(),
            network: NetworkNotices::default(),
            lookups: 0,
            mail: sender,
            waker,
            scratch: Vec::new(),
        };
        Ok(Self {
            poll,
            events: Events::with_capacity(EVENTS),
            core,
            hosts: Slab::new(),
            timers: Timers::new(),
            mail,
            application: Vec::new(),
            lag: Lag::default(),
        })
    }

    /// Adds a rendezvous.
    ///
    /// # Errors
    /// What binding its listeners says.
    pub fn add_rendezvous(
        &mut self,
        open: impl FnOnce(&mut Core, HostId) -> io::Result<RendezvousHost>,
    ) -> io::Result<HostId> {
        let id = HostId(self.hosts.vacant_key() as u32);
        let host = Host::Rendezvous(Box::new(open(&mut self.core, id)?));
        self.hosts.insert(Entry { host, armed: None });
        self.rearm(id);
        Ok(id)
    }

    /// Adds a peer, which logs in.
    pub fn add_peer(&mut self, open: impl FnOnce(&mut Core, HostId) -> PeerHost) -> HostId {
        let id = HostId(self.hosts.vacant_key() as u32);
        let host = Host::Peer(Box::new(open(&mut self.core, id)));
        self.hosts.insert(Entry { host, armed: None });
        self.rearm(id);
        id
    }

    /// Removes a host with all of its sockets.
    pub fn remove(&mut self, id: HostId) {
        let Some(mut entry) = self.hosts.try_remove(id.0 as usize) else { return };
        if let Some(at) = entry.armed {
            self.timers.clear(at, id);
        }
        match &mut entry.host {
            Host::Rendezvous(host) => host.close_all(&mut self.core),
            Host::Peer(host) => host.close_all(&mut self.core),
        }
    }

    /// A rendezvous, to read from.
    ///
    /// # Panics
    /// If `id` is not that of a rendezvous in this reactor.
    pub fn rendezvous(&mut self, id: HostId) -> &mut RendezvousHost {
        match &mut self.hosts[id.0 as usize].host {
            Host::Rendezvous(host) => host,
            Host::Peer(_) => panic!("{id:?} is a peer"),
        }
    }

    /// A peer, to read from: its events, its state.
    ///
    /// # Panics
    /// If `id` is not that of a peer in this reactor.
    pub fn peer(&mut self, id: HostId) -> &mut PeerHost {
        match &mut self.hosts[id.0 as usize].host {
            Host::Peer(host) => host,
            Host::Rendezvous(_) => panic!("{id:?} is a rendezvous"),
        }
    }

    /// Gives a peer a command that needs the reactor.
    ///
    /// # Panics
    /// If `id` is not that of a peer in this reactor.
    pub fn with_peer<T>(
        &mut self,
        id: HostId,
        command: impl FnOnce(&mut PeerHost, &mut Core) -> T,
    ) -> T {
        let Host::Peer(host) = &mut self.hosts[id.0 as usize].host else {
            panic!("{id:?} is not a peer")
        };
        let result = command(host, &mut self.core);
        self.rearm(id);
        result
    }

    /// Gives a rendezvous a command that needs the reactor.
    ///
    /// # Panics
    /// If `id` is not that of a rendezvous in this reactor.
    pub fn with_rendezvous<T>(
        &mut self,
        id: HostId,
        command: impl FnOnce(&mut RendezvousHost, &mut Core) -> T,
    ) -> T {
        let Host::Rendezvous(host) = &mut self.hosts[id.0 as usize].host else {
            panic!("{id:?} is not a rendezvous")
        };
        let result = command(host, &mut self.core);
        self.rearm(id);
        result
    }

    /// Ends a turn when `source` is ready; [`Self::take_ready`] then names `key`. Returns the token for
    /// [`Self::unwatch`].
    ///
    /// # Errors
    /// What epoll_ctl(2) says.
    pub fn watch(&mut self, source: &mut impl Source, key: usize) -> io::Result<Token> {
        self.core.register(source, APPLICATION, key)
    }

    /// Takes [`Self::watch`] back. The key may still be among those that are ready.
    pub fn unwatch(&mut self, source: &mut impl Source, token: Token) {
        self.core.deregister(source, token);
    }

    /// The keys of watched sources that have become ready.
    pub fn take_ready(&mut self) -> Vec<usize> {
        std::mem::take(&mut self.application)
    }

    /// How many sockets are registered, those of the application included.
    pub fn sockets(&self) -> usize {
        self.core.sockets()
    }

    /// How long turns take, and how late timers fire. What the application does between two turns is part of
    /// the first.
    pub fn lag(&self) -> &Lag {
        &self.lag
    }

    /// Waits for something to do, at most until `deadline`, and does it.
    ///
    /// # Errors
    /// What epoll_wait(2) says, interruptions apart.
    pub fn turn(&mut self, deadline: Option<Instant>) -> io::Result<()> {
        let now = clock::now();
        self.lag.waits(now);
        let timeout = self.timeout(deadline, now);
        match self.poll.poll(&mut self.events, timeout) {
            Err(error) if error.kind() != io::ErrorKind::Interrupted => return Err(error),
            _ => {}
        }
        let woken = clock::now();
        self.lag.woken(woken);
        let now = self.handle_events(woken);
        let now = self.handle_requeued(now);
        let now = self.handle_timers(now);
        self.handle_mail(now);
        Ok(())
    }

    fn timeout(&self, deadline: Option<Instant>, now: Instant) -> Option<Duration> {
        if !self.core.requeued.is_empty() {
            return Some(Duration::ZERO);
        }
        let next = [self.timers.next(), self.core.delayed.next(), deadline].into_iter().flatten();
        next.min().map(|at| at.saturating_duration_since(now))
    }

    // Each of the steps takes the time at which it begins, and returns that at which it ends.

    fn handle_events(&mut self, mut now: Instant) -> Instant {
        let events = std::mem::replace(&mut self.events, Events::with_capacity(0));
        for event in &events {
            if event.token() == WAKER {
                continue;
            }
            let broken = event.is_error() || event.is_read_closed() && event.is_write_closed();
            let readiness = Readiness {
                readable: event.is_readable() || event.is_read_closed() || broken,
                writable: event.is_writable() || broken,
                ended: event.is_read_closed() || broken,
            };
            now = self.dispatch(event.token(), readiness, now);
        }
        self.events = events;
        now
    }

    /// Those that are requeued meanwhile wait for the next turn.
    fn handle_requeued(&mut self, mut now: Instant) -> Instant {
        while let Some((due, token)) = self.core.delayed.expire(now) {
            self.lag.fired(due, now);
            self.core.requeue(token, Readiness::READABLE);
        }
        for _ in 0..self.core.requeued.len() {
            if let Some((token, readiness)) = self.core.requeued.pop_front() {
                now = self.dispatch(token, readiness, now);
            }
        }
        now
    }

    /// Those whose time comes meanwhile wait for the next turn.
    fn handle_timers(&mut self, start: Instant) -> Instant {
        let mut now = start;
        while let Some((due, id)) = self.timers.expire(start) {
            self.lag.fired(due, now);
            let entry = &mut self.hosts[id.0 as usize];
            entry.armed = None;
            match &mut entry.host {
                Host::Rendezvous(host) => host.handle_timeout(&mut self.core, now),
                Host::Peer(host) => host.handle_timeout(&mut self.core, now),
            }
            self.rearm(id);
            now = self.handled(What::Timers { host: id.0 }, now);
        }
        now
    }

    fn handle_mail(&mut self, mut now: Instant) {
        while let Ok((id, mail)) = self.mail.try_recv() {
            if let Some(Entry { host: Host::Peer(host), .. }) = self.hosts.get_mut(id.0 as usize) {
                host.handle_mail(&mut self.core, mail);
                self.rearm(id);
                now = self.handled(What::Mail { host: id.0 }, now);
            }
        }
    }

    /// One handler is done that began at `began`; returns the time.
    fn handled(&mut self, what: What, began: Instant) -> Instant {
        let now = clock::now();
        self.lag.handled(what, began, now);
        now
    }

    fn dispatch(&mut self, token: Token, readiness: Readiness, began: Instant) -> Instant {
        if token == NETWORK {
            self.handle_network();
            return self.handled(What::Network, began);
        }
        // A stale event, of a socket that is closed and whose slot may be taken again.
        let Some(slot) = self.core.slot(token) else { return began };
        let (id, key) = (slot.host, slot.key);
        if id == APPLICATION {
            self.application.push(key);
            return began;
        }
        // What kind it is: once it is handled, it may be gone.
        let socket = match &mut self.hosts[id.0 as usize].host {
            Host::Rendezvous(host) => {
                let kind = host.kind_of(key);
                host.handle_ready(&mut self.core, key, readiness);
                kind
            }
            Host::Peer(host) => {
                host.handle_ready(&mut self.core, key, readiness);
                "peer"
            }
        };
        self.rearm(id);
        self.handled(What::Ready { host: id.0, socket }, began)
    }

    /// Tells those who follow the network, once for all that has come.
    fn handle_network(&mut self) {
        let notices = self.core.read_network_notices();
        if notices.more {
            self.core.requeue(NETWORK, Readiness::READABLE);
        }
        if !notices.changed {
            return;
        }
        for id in self.core.network.followers() {
            if let Host::Peer(host) = &mut self.hosts[id.0 as usize].host {
                host.handle_network_changed(&mut self.core);
                self.rearm(id);
            }
        }
    }

    fn rearm(&mut self, id: HostId) {
        let entry = &mut self.hosts[id.0 as usize];
        let next = match &entry.host {
            Host::Rendezvous(host) => host.poll_timeout(),
            Host::Peer(host) => host.poll_timeout(),
        };
        if next == entry.armed {
            return;
        }
        if let Some(at) = std::mem::replace(&mut entry.armed, next) {
            self.timers.clear(at, id);
        }
        if let Some(at) = next {
            self.timers.set(at, id);
        }
    }
}
