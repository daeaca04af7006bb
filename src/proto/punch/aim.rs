//! What a release has this side dial: candidates, and where ports must be guessed, many of them.

use std::collections::HashSet;
use std::net::SocketAddr;

use super::candidates::{OwnAddresses, neighbours, worth_dialling};
use super::conns::Target;
use crate::limits;
use crate::wire::message::{Candidate, CandidateKind, Release, Spray};

/// The targets of a round, in the order in which they are dialled. At most `sockets` of them: this
/// machine has no more to spare.
pub(super) fn targets(
    release: &Release,
    own: &OwnAddresses,
    sockets: usize,
    random: &mut fastrand::Rng,
) -> Vec<Target> {
    let candidates = worth_dialling(&release.candidates, own);
    let round = release.round;
    let mut targets: Vec<Target> =
        candidates.iter().map(|candidate| Target::new(round, release.from, *candidate)).collect();
    let room = sockets.min(limits::PUNCH_SOCKETS).saturating_sub(targets.len());
    let mut strays = Vec::new();
    let from = Some(release.from);
    strays
        .extend(neighbours(&release.candidates, own).map(|host| Target::stray(round, from, host)));
    strays.extend(rows(release, &candidates));
    strays.extend(many(release, &candidates));
    if let Some(spray) = release.spray {
        strays.extend(sprayed(release, spray, room, random));
    }
    strays.truncate(room);
    targets.append(&mut strays);
    targets
}

/// One dial to another port of each address that `held` is going to dial.
pub(super) fn knocks(release: &Release, held: &[Target]) -> Vec<Target> {
    let mut knocked = HashSet::new();
    let addresses = held.iter().map(|target| target.candidate.address);
    addresses
        .filter(|address| knocked.insert(address.ip()))
        .map(|address| {
            let beside = address.port().checked_add(1).unwrap_or(address.port() - 1);
            let address = SocketAddr::new(address.ip(), beside);
            let candidate = Candidate { kind: CandidateKind::Predicted, address };
            Target::stray(release.round, Some(release.from), candidate)
        })
        .collect()
}

/// What the ports in a row dial behind the first one, on either side: each its counterpart, at each address
/// where S has seen the other side.
fn rows<'a>(
    release: &'a Release,
    candidates: &'a [Candidate],
) -> impl Iterator<Item = Target> + 'a {
    let [ours, theirs] = release.rows.map(|row| row.clamp(1, limits::PORT_ROW));
    let seen = |it: &&Candidate| it.kind == CandidateKind::ServerReflexive;
    let dial = move |step: u8, candidate: &Candidate| {
        let onward = if theirs > 1 { u16::from(step) } else { 0 };
        let port = candidate.address.port().checked_add(onward)?;
        let address = SocketAddr::new(candidate.address.ip(), port);
        let candidate = Candidate { address, ..*candidate };
        let target = Target::stray(release.round, Some(release.from), candidate);
        Some(target.stepped(if ours > 1 { step } else { 0 }))
    };
    (1..ours.max(theirs)).flat_map(move |step| {
        candidates.iter().filter(seen).filter_map(move |candidate| dial(step, candidate))
    })
}

/// The dials from many fresh ports. Where there are several predicted endpoints, each has its wave.
fn many(release: &Release, candidates: &[Candidate]) -> Vec<Target> {
    let many = usize::from(release.sockets.saturating_sub(1));
    let aims = aims_of_many(candidates);
    let dial = |aim: &Candidate| Target::stray(release.round, None, *aim);
    match aims.first() {
        Some(first) if first.kind == CandidateKind::Predicted => {
            let each = many.div_ceil(aims.len());
            let waves = aims
                .iter()
                .zip(0..)
                .flat_map(|(aim, wave)| (0..each).map(move |_| dial(aim).in_wave(wave)));
            waves.take(many).collect()
        }
        _ => aims.iter().cycle().take(many).map(dial).collect(),
    }
}

/// Where many sockets aim: at the predicted endpoints; else where S has seen the other side, and at that port
/// of the other addresses of its NAT; else at a host.
fn aims_of_many(candidates: &[Candidate]) -> Vec<Candidate> {
    let of = |kind| {
        let found = || candidates.iter().filter(move |candidate| candidate.kind == kind);
        let first = found().next();
        let family = first.is_some_and(|first| first.address.is_ipv4());
        found().copied().filter(|it| it.address.is_ipv4() == family).collect::<Vec<_>>()
    };
    let kinds = [CandidateKind::Predicted, CandidateKind::ServerReflexive, CandidateKind::Host];
    let mut aims = kinds.into_iter().map(of).find(|aims| !aims.is_empty()).unwrap_or_default();
    // Of several hosts, the first is as good as any.
    if aims.first().is_some_and(|aim| aim.kind == CandidateKind::Host) {
        aims.truncate(1);
    }
    aims
}

/// The ports of a spray, each once from the port that S knows. Where more dials than ports are wanted, the
/// rest goes out from fresh ports, each of which has a mapping of its own again.
fn sprayed(
    release: &Release,
    spray: Spray,
    room: usize,
    random: &mut fastrand::Rng,
) -> Vec<Target> {
    let wanted = usize::from(spray.dials).min(room);
    let mut targets: Vec<Target> = Vec::with_capacity(wanted);
    let mut from = Some(release.from);
    while targets.len() < wanted {
        let ports = distinct_ports(spray, wanted - targets.len(), random);
        if ports.is_empty() {
            break;
        }
        targets.extend(ports.into_iter().map(|port| {
            let address = SocketAddr::new(spray.ip, port);
            let candidate = Candidate { kind: CandidateKind::Predicted, address };
            Target::stray(release.round, from, candidate)
        }));
        from = None;
    }
    targets
}

fn distinct_ports(spray: Spray, wanted: usize, random: &mut fastrand::Rng) -> Vec<u16> {
    if spray.first > spray.last || spray.first == 0 {
        return Vec::new();
    }
    let size = usize::from(spray.last - spray.first) + 1;
    let wanted = wanted.min(size);
    // Where most of the range is wanted, guessing would meet the same ports again and again.
    if wanted > size / 2 {
        let mut ports: Vec<u16> = (spray.first..=spray.last).collect();
        random.shuffle(&mut ports);
        ports.truncate(wanted);
        return ports;
    }
    let mut seen = HashSet::with_capacity(wanted);
    std::iter::repeat_with(|| random.u16(spray.first..=spray.last))
        .filter(|port| seen.insert(*port))
        .take(wanted)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::identity::PublicKey;
    use crate::wire::message::{Nat, Port, Role};

    fn release(sockets: u16, spray: Option<Spray>) -> Release {
        let address = "203.0.113.1:7".parse().unwrap();
        Release {
            introduction: 1,
            request: 1,
            round: 1,
            role: Role::Controller,
            delay: 0,
            key: PublicKey::from_bytes([2; 32]),
            nonce: [3; 16],
            token: [4; 16],
            from: Port::Main,
            nat: Nat::default(),
            candidates: vec![Candidate { kind: CandidateKind::ServerReflexive, address }],
            sockets,
            rows: [1; 2],
            spray,
            relay: None,
            hopeful: true,
            brief: false,
            yields: false,
        }
    }

    fn spray(first: u16, last: u16, dials: u16) -> Spray {
        Spray { ip: "203.0.113.1".parse().unwrap(), first, last, dials }
    }

    fn aimed(release: &Release, sockets: usize) -> Vec<Target> {
        let mut random = fastrand::Rng::with_seed(1);
        targets(release, &OwnAddresses::default(), sockets, &mut random)
    }

    #[test]
    fn many_sockets_are_aimed_at_one_endpoint_from_ports_of_their_own() {
        let targets = aimed(&release(48, None), 1000);
        assert_eq!(targets.len(), 48);
        assert_eq!(targets[0].from, Some(Port::Main));
        assert!(targets[1..].iter().all(|target| target.from.is_none() && target.stray));
    }

    #[test]
    fn sprayed_ports_are_different_ones_of_the_range_from_one_port() {
        for (first, last, dials, expected) in
            [(1024, 65_535, 2048, 2048), (2048, 3071, 1000, 1000), (9, 8, 5, 0)]
        {
            let targets = aimed(&release(1, Some(spray(first, last, dials))), 9999);
            let ports: HashSet<u16> =
                targets[1..].iter().map(|target| target.candidate.address.port()).collect();
            assert_eq!(ports.len(), expected, "{first}..={last}");
            assert!(ports.iter().all(|port| (first..=last).contains(port)));
            assert!(targets.iter().all(|target| target.from == Some(Port::Main)));
        }
    }

    #[test]
    fn more_dials_than_ports_go_on_from_fresh_ports() {
        let targets = aimed(&release(1, Some(spray(10, 19, 25))), 9999);
        let from_known = targets[1..].iter().filter(|target| target.from == Some(Port::Main));
        let ports: HashSet<u16> =
            from_known.map(|target| target.candidate.address.port()).collect();
        assert_eq!((targets.len(), ports.len()), (26, 10));
        assert!(targets[11..].iter().all(|target| target.from.is_none()));
    }

    #[test]
    fn many_sockets_aim_at_each_address_of_a_pool_in_turn() {
        let mut release = release(5, None);
        let kind = CandidateKind::ServerReflexive;
        let address = "203.0.113.2:7".parse().unwrap();
        release.candidates.push(Candidate { kind, address });
        let of_pool = |target: &&Target| target.candidate.address == address;
        let targets = aimed(&release, 100);
        assert_eq!((targets.len(), targets.iter().filter(of_pool).count()), (6, 3));
    }

    #[test]
    fn ports_in_a_row_dial_their_counterparts_at_each_address() {
        let mut release = release(1, None);
        let kind = CandidateKind::ServerReflexive;
        release.candidates.push(Candidate { kind, address: "203.0.113.2:7".parse().unwrap() });
        let dials = |rows| {
            let release = Release { rows, ..release.clone() };
            let mut dials: Vec<_> = aimed(&release, 100)
                .iter()
                .map(|target| (target.beside, target.candidate.address.to_string()))
                .collect();
            dials.sort();
            dials
        };
        let both = |from: u8, port: u16| [1, 2].map(|n| (from, format!("203.0.113.{n}:{port}")));
        let all = |pairs: [(u8, u16); 3]| pairs.map(|(from, port)| both(from, port)).concat();
        assert_eq!(dials([3, 3]), all([(0, 7), (1, 8), (2, 9)]));
        assert_eq!(dials([3, 1]), all([(0, 7), (1, 7), (2, 7)]));
        let mut expected = all([(0, 7), (0, 8), (0, 9)]);
        expected.sort();
        assert_eq!(dials([1, 3]), expected);
        assert_eq!(dials([200, 1]).len(), 2 * usize::from(limits::PORT_ROW));
        assert_eq!(dials([0, 0]).len(), 2);
    }

    #[test]
    fn each_predicted_endpoint_has_a_wave_of_its_own() {
        let mut release = release(7, None);
        for port in [70, 71] {
            let address = SocketAddr::new([203, 0, 113, 1].into(), port);
            release.candidates.push(Candidate { kind: CandidateKind::Predicted, address });
        }
        let waves: Vec<_> = aimed(&release, 100)[3..]
            .iter()
            .map(|target| (target.wave, target.candidate.address.port()))
            .collect();
        assert_eq!(waves, [(0, 70), (0, 70), (0, 70), (1, 71), (1, 71), (1, 71)]);
    }

    #[test]
    fn who_yields_knocks_beside_the_port_that_it_will_be_reached_from() {
        let release = release(1, None);
        let held = aimed(&release, 100);
        let knocks = knocks(&release, &held);
        assert_eq!(knocks.len(), 1);
        assert_eq!(knocks[0].candidate.address, "203.0.113.1:8".parse().unwrap());
        assert_eq!(knocks[0].from, Some(Port::Main));
    }

    #[test]
    fn no_more_than_the_machine_can_spare() {
        assert_eq!(aimed(&release(256, Some(spray(1024, 65_535, 2048))), 100).len(), 100);
        assert_eq!(
            aimed(&release(1, Some(spray(1024, 65_535, 60_000))), 60_000).len(),
            limits::PUNCH_SOCKETS
        );
    }
}
