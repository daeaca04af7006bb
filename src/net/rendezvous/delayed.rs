//! STUN requests that are answered late: so a client learns how long its NAT keeps an idle mapping.

use std::collections::HashMap;
use std::net::IpAddr;
use std::time::Duration;

use super::{Due, RendezvousHost, count_in, count_out};
use crate::limits;
use crate::net::clock;
use crate::net::reactor::Core;
use crate::proto::rendezvous::LinkId;
use crate::wire::stun::{self, Transaction};

/// RFC 8656 §19's Allocation Quota Reached: this client has its share.
const QUOTA: u16 = 486;

/// RFC 8656 §19's Insufficient Capacity: nobody gets more.
const CAPACITY: u16 = 508;

/// The requests that wait for their answer.
#[derive(Debug, Default)]
pub(super) struct Delayed {
    per_address: HashMap<IpAddr, u32>,
    count: usize,
}

impl RendezvousHost {
    /// Keeps a request until its time has come, or answers at once why not.
    pub(super) fn delay_answer(
        &mut self,
        link: LinkId,
        transaction: Transaction,
        seconds: u32,
        answers: &mut Vec<u8>,
    ) {
        let bounds = self.machine.limits();
        let (in_all, of_one) = (bounds.delayed_answers, bounds.delayed_answers_per_address);
        let Some(hole) = self.hole_link(link) else { return };
        let (remote, waits) = (hole.remote, hole.delayed.is_some());
        let delay = Duration::from_secs(seconds.into());
        let (code, reason) = if waits || delay > limits::DELAYED_ANSWER_TIME {
            (stun::code::BAD_REQUEST, "Bad Request")
        } else if self.delayed.count >= in_all {
            (CAPACITY, "Insufficient Capacity")
        } else if !count_in(&mut self.delayed.per_address, remote, of_one) {
            (QUOTA, "Quota Reached")
        } else {
            self.delayed.count += 1;
            let at = clock::now() + delay;
            self.timers.set(at, Due::DelayedAnswer(link));
            if let Some(hole) = self.hole_link(link) {
                hole.delayed = Some((transaction, at));
            }
            return;
        };
        stun::binding_error(answers, &transaction, code, reason, &[]);
    }

    pub(super) fn answer_delayed(&mut self, core: &mut Core, link: LinkId) {
        self.forget_delayed(link);
        let Some(hole) = self.hole_link(link) else { return };
        let Some((transaction, at)) = hole.delayed.take() else { return };
        // It may live on as any connection that has just spoken.
        hole.active = at;
        let mut answer = Vec::new();
        stun::binding_success(&mut answer, &transaction, hole.remote, hole.other, None);
        if hole.out.send(&mut hole.stream, &answer).is_err() {
            self.lose_hole(core, link);
        }
    }

    /// The connection goes, or gets its answer: it doesn't count any more.
    pub(super) fn forget_delayed(&mut self, link: LinkId) {
        let Some(hole) = self.hole_link(link) else { return };
        let Some((_, at)) = hole.delayed else { return };
        let remote = hole.remote;
        self.timers.clear(at, Due::DelayedAnswer(link));
        self.delayed.count -= 1;
        count_out(&mut self.delayed.per_address, remote);
    }
}
