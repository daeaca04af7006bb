//! What each side of an introduction is told when a round is released: pure functions of the
//! introduction and the two sessions.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use super::sessions::{Micros, Session};
use super::table::{Introduction, IntroductionId, Side, Source, other};
use crate::limits;
use crate::proto::punch::strategy::{AHEAD, Aim, SidePlan, is_hopeful};
use crate::wire::message::{Allocation, Candidate, CandidateKind, Release, Role, Spray};

/// The release for one side. `me` is the session of that side, `peer` that of the other.
pub(super) fn compose(
    id: IntroductionId,
    introduction: &Introduction,
    role: Role,
    me: &Session,
    peer: &Session,
    longest_delay: Duration,
    relay: Option<SocketAddr>,
) -> Release {
    let [controller_plan, controlled_plan] = *introduction.plan();
    let plan = match role {
        Role::Controller => controller_plan,
        Role::Controlled => controlled_plan,
    };
    let (request, controlled) = match role {
        Role::Controller => (introduction.request, peer),
        Role::Controlled => (0, me),
    };
    Release {
        introduction: id.0,
        request,
        round: introduction.round,
        role,
        delay: u32::from(plan.lag_ms) * 1000
            + match introduction.round {
                1 => 0,
                _ => delay(me.round_trip, peer.round_trip, longest_delay),
            },
        key: peer.key,
        nonce: controlled.nonce,
        token: introduction.token,
        from: introduction.side(role).source.port(),
        nat: peer.nat,
        candidates: aimed(peer, introduction.side(other(role)), plan.aim),
        sockets: plan.sockets,
        rows: match role {
            Role::Controller => [controller_plan.row, controlled_plan.row],
            Role::Controlled => [controlled_plan.row, controller_plan.row],
        },
        spray: spray(peer, introduction.side(other(role)), plan.aim),
        relay,
        hopeful: is_hopeful(me.nat_for(introduction.round), peer.nat_for(introduction.round)),
        brief: introduction.plan().iter().any(SidePlan::is_brief),
        yields: plan.yields,
    }
}

/// The other side's candidates, and the ports that its NAT is expected to hand out next.
fn aimed(peer: &Session, side: &Side, aim: Aim) -> Vec<Candidate> {
    let mut found = candidates(peer, side.source);
    let steps = match aim {
        Aim::Observed | Aim::Random(..) => return found,
        Aim::Ahead(count) => 1..=count.min(AHEAD),
        Aim::Step(step, count) => step..=step.saturating_add(count - 1),
    };
    let (Some(last), Allocation::Sequential { delta, .. }) =
        (side.last_mapped(), peer.nat.allocation)
    else {
        return found;
    };
    let ports = steps.map(|step| next_port(last.port(), delta, step));
    let predicted = ports.map(|port| Candidate {
        kind: CandidateKind::Predicted,
        address: SocketAddr::new(last.ip(), port),
    });
    found.extend(predicted.take(limits::CANDIDATES - found.len()));
    found
}

/// Where a NAT stands `step` steps after a port; its range wraps around above the well-known ports.
fn next_port(last: u16, delta: i16, step: u16) -> u16 {
    let (first, size) = (1024, i32::from(u16::MAX) - 1023);
    let offset = i32::from(last) - first + i32::from(delta) * i32::from(step);
    (first + offset.rem_euclid(size)) as u16
}

/// Ports to dial beside the candidates.
fn spray(peer: &Session, side: &Side, aim: Aim) -> Option<Spray> {
    match aim {
        Aim::Random(dials, range) => {
            let ip = peer.observed.ip();
            Some(Spray { ip, first: range.first, last: range.last, dials })
        }
        Aim::Ahead(count) if count > AHEAD => far_ahead(peer, side, count),
        _ => None,
    }
}

/// Where others are busy, the ports that follow those which are dialled as candidates.
fn far_ahead(peer: &Session, side: &Side, count: u16) -> Option<Spray> {
    let Allocation::Sequential { delta, .. } = peer.nat.allocation else { return None };
    let mapped = side.last_mapped()?;
    let ends = [AHEAD + 1, count].map(|step| next_port(mapped.port(), delta, step));
    let (first, last) = (ends[0].min(ends[1]), ends[0].max(ends[1]));
    // Where the sequence wraps around in between, what is left of it is few.
    let dials = last - first + 1;
    let together = u32::from(dials) <= u32::from(delta.unsigned_abs()) * u32::from(count);
    together.then_some(Spray { ip: mapped.ip(), first, last, dials })
}

/// How long the nearer side waits, so that both dial at the same time: the release takes half a
/// round trip to each.
fn delay(mine: Micros, theirs: Micros, longest: Duration) -> u32 {
    let ahead = theirs.0.saturating_sub(mine.0) / 2;
    ahead.min(Micros::of(longest).0)
}

/// Where a session may be reached that dials from `source`: at the addresses of its interfaces, then
/// where S sees it, then where its routers have been asked to map it, then at the other addresses of its
/// NAT. What is both is listed once, under the first of them.
fn candidates(session: &Session, source: Source) -> Vec<Candidate> {
    let (local_port, reflexive, too, mapped) = match source {
        Source::Hole { local_port, mapped, .. } => (local_port, mapped, None, [].as_slice()),
        Source::Main | Source::Awaited { .. } => {
            let elsewhere = session.elsewhere.as_deref();
            let too = elsewhere.and_then(|elsewhere| elsewhere.observed_too);
            let mapped = elsewhere.map_or([].as_slice(), |elsewhere| &elsewhere.mapped);
            (session.local_port, session.observed, too, mapped)
        }
    };
    let near = session.observed.ip().is_loopback();
    let hosts = session
        .hosts
        .iter()
        .map(|ip| (CandidateKind::Host, SocketAddr::new(ip.to_canonical(), local_port)));
    let observed = [Some(reflexive), too].into_iter().flatten();
    let observed = observed.map(|address| (CandidateKind::ServerReflexive, address));
    let mapped = mapped.iter().map(|address| (CandidateKind::PortMapped, *address));
    // A hole may have got another address of the NAT than the main connection.
    let main = session.pool().first().map(|_| session.observed.ip());
    let pool = main.iter().chain(session.pool());
    let pool =
        pool.map(|ip| (CandidateKind::ServerReflexive, SocketAddr::new(*ip, reflexive.port())));
    let mut found: Vec<Candidate> = Vec::new();
    for (kind, address) in hosts.chain(observed).chain(mapped).chain(pool) {
        let known = found.iter().any(|candidate| candidate.address == address);
        if !known && may_be_dialled(kind, address, near) {
            found.push(Candidate { kind, address });
        }
    }
    debug_assert!(found.len() <= limits::CANDIDATES, "the hosts are bounded");
    found
}

/// Keeps peers from sending each other to addresses that can't be theirs.
fn may_be_dialled(kind: CandidateKind, address: SocketAddr, near: bool) -> bool {
    let ip = address.ip();
    let is_somewhere = address.port() != 0 && !ip.is_unspecified() && !ip.is_multicast();
    let is_only_local = is_without_meaning_elsewhere(ip) || (ip.is_loopback() && !near);
    is_somewhere && !(kind == CandidateKind::Host && is_only_local)
}

/// Broadcast, and the link-local addresses of IPv6: they need the name of an interface, which
/// candidates don't have.
fn is_without_meaning_elsewhere(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(ip) => ip.is_broadcast(),
        IpAddr::V6(ip) => ip.is_unicast_link_local(),
    }
}

const _: () = assert!(
    limits::HOST_ADDRESSES + 3 + limits::MAPPED_ENDPOINTS + limits::POOL_ADDRESSES
        <= limits::CANDIDATES
);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sequence_goes_on_and_wraps_around() {
        assert_eq!(next_port(7000, 1, 3), 7003);
        assert_eq!(next_port(7000, -2, 3), 6994);
        assert_eq!(next_port(65_535, 1, 2), 1025);
        assert_eq!(next_port(1024, -1, 1), 65_535);
    }

    #[test]
    fn the_nearer_side_waits_half_the_difference_and_not_too_long() {
        let longest = Duration::from_millis(500);
        let ms = |ms: u64| Micros::of(Duration::from_millis(ms));
        assert_eq!(delay(ms(20), ms(100), longest), 40_000);
        assert_eq!(delay(ms(100), ms(20), longest), 0);
        assert_eq!(delay(ms(0), ms(60_000), longest), 500_000);
        assert_eq!(delay(Micros(0), Micros(u32::MAX), longest), 500_000);
    }
}
