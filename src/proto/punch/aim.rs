//! What a release has this side dial: candidates, and where ports must be guessed, many of them.

use std::collections::HashSet;
use std::net::SocketAddr;

use super::candidates::{OwnAddresses, worth_dialling};
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
    if let Some(aim) = aim_of_many(&candidates) {
        let many = usize::from(release.sockets.saturating_sub(1));
        strays.extend((0..many).map(|_| Target::stray(round, None, aim)));
    }
    if let Some(spray) = release.spray {
        let ports = distinct_ports(spray, room, random).into_iter();
        strays.extend(ports.map(|port| {
            let address = SocketAddr::new(spray.ip, port);
            let candidate = Candidate { kind: CandidateKind::Predicted, address };
            Target::stray(round, Some(release.from), candidate)
        }));
    }
    strays.truncate(room);
    targets.append(&mut strays);
    targets
}

/// Many sockets are all aimed at one endpoint: the predicted one, else the one that S has seen.
fn aim_of_many(candidates: &[Candidate]) -> Option<Candidate> {
    let of = |kind| candidates.iter().find(|candidate| candidate.kind == kind).copied();
    of(CandidateKind::Predicted)
        .or_else(|| of(CandidateKind::ServerReflexive))
        .or_else(|| of(CandidateKind::Host))
}

fn distinct_ports(spray: Spray, room: usize, random: &mut fastrand::Rng) -> Vec<u16> {
    if spray.first > spray.last || spray.first == 0 {
        return Vec::new();
    }
    let size = usize::from(spray.last - spray.first) + 1;
    let wanted = usize::from(spray.dials).min(room).min(size);
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
            spray,
            relay: None,
            hopeful: true,
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
            [(1024, 65_535, 2048, 2048), (2048, 3071, 1000, 1000), (10, 19, 99, 10), (9, 8, 5, 0)]
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
    fn no_more_than_the_machine_can_spare() {
        assert_eq!(aimed(&release(256, Some(spray(1024, 65_535, 2048))), 100).len(), 100);
        assert_eq!(
            aimed(&release(1, Some(spray(1024, 65_535, 60_000))), 60_000).len(),
            limits::PUNCH_SOCKETS
        );
    }
}
