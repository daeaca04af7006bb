//! The internet of the lab: one thread that carries packets between the sites' TUN devices.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::fs::File;
use std::io::{self, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::{AsRawFd, RawFd};
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use crate::sys::{self, Poller};
use crate::userspace_nat::{UserspaceNat, Verdict};

/// A place on the WAN: a TUN device, and the addresses that lead to it.
pub(crate) struct Site {
    pub(crate) tun: File,
    pub(crate) prefixes: Vec<Prefix>,
    /// What translates between the two.
    pub(crate) nat: Option<UserspaceNat>,
}

#[derive(Clone, Copy)]
pub(crate) struct Prefix(pub(crate) IpAddr, pub(crate) u32);

/// What the tests see and turn while packets flow.
pub(crate) struct Wan {
    controls: Arc<Controls>,
    stop: Option<UnixStream>,
    thread: Option<JoinHandle<()>>,
}

/// Sites are counted in the order given to [`Wan::start`].
struct Controls {
    /// One way, in nanoseconds: `[from][to]`.
    delays: Vec<Vec<AtomicU64>>,
    /// Of a million packets from or to the site, how many are lost.
    losses: Vec<AtomicU32>,
    /// IP bytes that the site has sent or been sent.
    bytes: Vec<AtomicU64>,
    /// Who copies what a site sends and is sent.
    tap: Mutex<Option<(usize, Tapped)>>,
}

/// What TCP segments carried, each by itself, in the order in which they were sent.
pub(crate) type Tapped = Vec<Vec<u8>>;

impl Wan {
    /// The seed decides which packets are lost.
    pub(crate) fn start(sites: Vec<Site>, delay: Duration, seed: u64) -> Self {
        let nanos = delay.as_nanos() as u64;
        let row = |_| sites.iter().map(|_| AtomicU64::new(nanos)).collect();
        let controls = Arc::new(Controls {
            delays: sites.iter().map(row).collect(),
            losses: sites.iter().map(|_| AtomicU32::new(0)).collect(),
            bytes: sites.iter().map(|_| AtomicU64::new(0)).collect(),
            tap: Mutex::new(None),
        });
        let (stop, stopped) = UnixStream::pair().unwrap();
        let mut router = Router {
            sites,
            controls: Arc::clone(&controls),
            in_flight: BinaryHeap::new(),
            sequence: 0,
            random: fastrand::Rng::with_seed(seed),
        };
        let run = move || router.run(stopped.as_raw_fd());
        let thread = thread::Builder::new().name("wan".into()).spawn(run).unwrap();
        Self { controls, stop: Some(stop), thread: Some(thread) }
    }

    /// IP bytes that the site has sent or been sent so far.
    pub(crate) fn bytes(&self, site: usize) -> u64 {
        self.controls.bytes[site].load(Relaxed)
    }

    /// From now on, copies what TCP carries from and to the site.
    pub(crate) fn tap(&self, site: usize) {
        *self.controls.tap.lock().unwrap() = Some((site, Tapped::new()));
    }

    /// What has been copied since then. The tap is gone.
    pub(crate) fn untap(&self) -> Tapped {
        let tap = self.controls.tap.lock().unwrap().take();
        tap.expect("a tap").1
    }

    /// Sets the one-way delay between two sites, in both directions.
    pub(crate) fn set_delay(&self, a: usize, b: usize, delay: Duration) {
        self.set_delay_one_way(a, b, delay);
        self.set_delay_one_way(b, a, delay);
    }

    pub(crate) fn set_delay_one_way(&self, from: usize, to: usize, delay: Duration) {
        self.controls.delays[from][to].store(delay.as_nanos() as u64, Relaxed);
    }

    /// Loses this part of the packets from and to the site: 0.0 none, 1.0 all.
    pub(crate) fn set_loss(&self, site: usize, part: f64) {
        self.controls.losses[site].store((part * 1e6) as u32, Relaxed);
    }
}

impl Drop for Wan {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            // A panic of the thread has already been printed, and shows as silence in the test.
            let _ = thread.join();
        }
    }
}

struct Router {
    sites: Vec<Site>,
    controls: Arc<Controls>,
    in_flight: BinaryHeap<Reverse<Flight>>,
    sequence: u64,
    random: fastrand::Rng,
}

/// A packet on its way. Ordered by arrival; the sequence keeps equals in the order of departure.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Flight {
    arrival: Instant,
    sequence: u64,
    to: usize,
    packet: Vec<u8>,
}

impl Router {
    fn run(&mut self, stopped: RawFd) {
        sys::want_exact_timers();
        let stop_index = self.sites.len();
        let tuns = self.sites.iter().map(|site| site.tun.as_raw_fd());
        let mut poller = Poller::new(tuns.chain([stopped]));
        loop {
            let landing = self.in_flight.peek().map(|Reverse(flight)| flight.arrival);
            let answers = self.sites.iter().filter_map(|site| site.nat.as_ref()?.poll_timeout());
            let next = answers.chain(landing).min();
            match poller.wait(next.map(|at| at.saturating_duration_since(Instant::now()))) {
                Ok(()) => {}
                Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
                Err(e) => panic!("the WAN: {e}"),
            }
            if poller.is_ready(stop_index) {
                return;
            }
            for from in 0..self.sites.len() {
                if poller.is_ready(from) {
                    self.take_off(from);
                }
            }
            self.land();
            self.answer();
        }
    }

    /// Reads what a site sends; not for ever, lest packets of other sites arrive late.
    fn take_off(&mut self, from: usize) {
        let mut buffer = [0; 2048];
        for _ in 0..32 {
            let length = match (&self.sites[from].tun).read(&mut buffer) {
                Ok(length) => length,
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => return,
                Err(e) => panic!("the WAN reads from site {from}: {e}"),
            };
            let packet = &mut buffer[..length];
            if let Some(nat) = &mut self.sites[from].nat
                && nat.outbound(packet, Instant::now()) == Verdict::Drop
            {
                continue;
            }
            self.send(from, packet);
        }
    }

    fn send(&mut self, from: usize, packet: &mut [u8]) {
        let Some(to) = self.route(packet) else { return };
        if to == from {
            if self.sites[from].nat.as_ref().is_some_and(UserspaceNat::knows_hairpinning) {
                self.deliver(to, packet);
            }
            return;
        }
        for site in [from, to] {
            self.controls.bytes[site].fetch_add(packet.len() as u64, Relaxed);
            if self.random.u32(0..1_000_000) < self.controls.losses[site].load(Relaxed) {
                return;
            }
        }
        self.copy([from, to], packet);
        let delay = Duration::from_nanos(self.controls.delays[from][to].load(Relaxed));
        if delay.is_zero() {
            self.deliver(to, packet);
            return;
        }
        let arrival = Instant::now() + delay;
        self.sequence += 1;
        let flight = Flight { arrival, sequence: self.sequence, to, packet: packet.to_vec() };
        self.in_flight.push(Reverse(flight));
    }

    fn copy(&self, sites: [usize; 2], packet: &[u8]) {
        if let Some((site, tapped)) = &mut *self.controls.tap.lock().unwrap()
            && sites.contains(site)
            && let Some(payload @ [_, ..]) = payload(packet)
        {
            tapped.push(payload.to_vec());
        }
    }

    fn land(&mut self) {
        while let Some(Reverse(next)) = self.in_flight.peek()
            && next.arrival <= Instant::now()
        {
            let Reverse(mut flight) = self.in_flight.pop().unwrap();
            self.deliver(flight.to, &mut flight.packet);
        }
    }

    fn deliver(&mut self, to: usize, packet: &mut [u8]) {
        let site = &mut self.sites[to];
        let verdict = match &mut site.nat {
            Some(nat) => nat.inbound(packet, Instant::now()),
            None => Verdict::Forward,
        };
        match verdict {
            Verdict::Forward => {
                // A device that is down or full loses the packet, as a line does.
                let _ = (&site.tun).write(packet);
            }
            Verdict::Drop => {}
            Verdict::Answer(mut answer) => self.send(to, &mut answer),
        }
    }

    /// Sends what NATs answer late.
    fn answer(&mut self) {
        for from in 0..self.sites.len() {
            let now = Instant::now();
            while let Some(nat) = &mut self.sites[from].nat
                && let Some(mut answer) = nat.poll_answer(now)
            {
                self.send(from, &mut answer);
            }
        }
    }

    /// The site that the packet's destination belongs to; none for multicast and the unknown.
    fn route(&self, packet: &[u8]) -> Option<usize> {
        let to = destination(packet)?;
        self.sites.iter().position(|site| site.prefixes.iter().any(|p| p.contains(to)))
    }
}

fn destination(packet: &[u8]) -> Option<IpAddr> {
    match packet.first()? >> 4 {
        4 => Some(Ipv4Addr::from(<[u8; 4]>::try_from(packet.get(16..20)?).unwrap()).into()),
        6 => Some(Ipv6Addr::from(<[u8; 16]>::try_from(packet.get(24..40)?).unwrap()).into()),
        _ => None,
    }
}

/// What a TCP segment carries. IPv6 extension headers don't occur here.
fn payload(packet: &[u8]) -> Option<&[u8]> {
    const TCP: u8 = 6;
    let (protocol, segment) = match packet.first()? >> 4 {
        4 => (*packet.get(9)?, usize::from(packet[0] & 15) * 4),
        _ => (*packet.get(6)?, 40),
    };
    let header = usize::from(packet.get(segment + 12)? >> 4) * 4;
    packet.get(segment + header..).filter(|_| protocol == TCP)
}

impl Prefix {
    fn contains(self, address: IpAddr) -> bool {
        match (self.0, address) {
            (IpAddr::V4(own), IpAddr::V4(other)) => {
                (own.to_bits() ^ other.to_bits()).leading_zeros() >= self.1
            }
            (IpAddr::V6(own), IpAddr::V6(other)) => {
                (own.to_bits() ^ other.to_bits()).leading_zeros() >= self.1
            }
            _ => false,
        }
    }
}
