//! `/metrics`: the text format of Prometheus.
//!
//! A registry is made for each scrape, around one snapshot: nothing is counted twice, and nothing is shared.

use std::collections::HashMap;
use std::fmt;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{
    DescriptorEncoder, EncodeLabelSet, MetricEncoder, NoLabelSet, prometheus_text,
};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::exemplar::Exemplar;
use prometheus_client::registry::Registry;

use super::process::Process;
use super::snapshot::{
    Connections, Counts, EventLoop, Histogram, Introductions, Relay, Sessions, Snapshot, Stun,
};

/// Appends all metrics.
pub(super) fn write(snapshot: Snapshot, out: &mut String) {
    let mut registry = Registry::default();
    registry.register_collector(Box::new(snapshot));
    let written = prometheus_text::encode(out, &registry);
    debug_assert!(written.is_ok(), "a String takes all");
}

impl Collector for Snapshot {
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let mut page = Page(encoder);
        page.info("gimlet_build", "The program.", &[("version", self.version)])?;
        page.gauge("gimlet_uptime_seconds", "Time since the start.", self.uptime_seconds)?;
        let draining = u64::from(self.draining);
        page.gauge("gimlet_draining", "1 while it stops and should get no new peers.", draining)?;
        self.sessions.encode(&mut page)?;
        self.connections.encode(&mut page)?;
        let help = "Logins and requests not granted.";
        page.counters("gimlet_refusals", help, "reason", &self.refusals)?;
        self.introductions.encode(&mut page)?;
        self.relay.encode(&mut page)?;
        self.stun.encode(&mut page)?;
        page.counter("gimlet_dial_backs", "Peers dialled back.", self.dial_backs.made)?;
        let help = "Dials back that were asked for and not made.";
        page.counter("gimlet_dial_backs_refused", help, self.dial_backs.refused)?;
        let presence = &self.presence;
        page.gauge("gimlet_watches", "Watches of all sessions.", presence.watches)?;
        page.gauge("gimlet_rooms", "Rooms with members.", presence.rooms)?;
        let help = "Comings and goings told.";
        page.counter("gimlet_presence_messages", help, presence.messages)?;
        self.event_loop.encode(&mut page)?;
        self.process.encode(&mut page)
    }
}

impl Sessions {
    fn encode(&self, page: &mut Page<'_>) -> fmt::Result {
        page.gauge("gimlet_sessions", "Peers that are logged in.", self.current)?;
        page.counter("gimlet_logins", "Logins granted.", self.logins)?;
        page.counter("gimlet_logouts", "Sessions that ended.", self.logouts)?;
        let help = "Sessions that a newer one of the same key replaced.";
        page.counter("gimlet_sessions_replaced", help, self.replaced)?;
        let help = "Sessions closed by the rendezvous.";
        page.counters("gimlet_sessions_closed", help, "reason", &self.closed)?;
        let help = "Messages of types that this version doesn't know.";
        page.counter("gimlet_unknown_messages", help, self.unknown_messages)
    }
}

impl Connections {
    fn encode(&self, page: &mut Page<'_>) -> fmt::Result {
        page.gauge("gimlet_sockets", "Sockets of the rendezvous.", self.current)?;
        page.gauge("gimlet_handshakes", "Logins in progress.", self.handshakes)?;
        let help = "Connections to the main port that were accepted.";
        page.counter("gimlet_connections_accepted", help, self.accepted)?;
        let help = "Connections closed at once, because a bound was reached.";
        page.counter("gimlet_connections_turned_away", help, self.turned_away)?;
        let help = "Handshakes that failed.";
        page.counter("gimlet_handshakes_failed", help, self.handshakes_failed)?;
        let help = "Times that accepting paused for want of descriptors.";
        page.counter("gimlet_accept_pauses", help, self.accept_pauses)
    }
}

impl Introductions {
    fn encode(&self, page: &mut Page<'_>) -> fmt::Result {
        page.gauge("gimlet_introductions", "Introductions in progress.", self.current)?;
        page.counter("gimlet_introductions_started", "Introductions begun.", self.started)?;
        let help = "Introductions that ended.";
        page.counters("gimlet_introductions_ended", help, "outcome", &self.outcomes)?;
        let help = "Introductions that ended, by the kinds of NATs that met.";
        let mut family = page.describe("gimlet_nat_pairs", help, MetricType::Counter)?;
        for pair in &self.nat_pairs {
            let [one, other] = pair.nats;
            for (outcome, count) in &pair.outcomes {
                let labels = [("nat", one), ("other_nat", other), ("outcome", *outcome)];
                count_one(&mut family, &labels, *count)?;
            }
        }
        let help = "Rounds released.";
        let mut family = page.describe("gimlet_punch_rounds", help, MetricType::Counter)?;
        for (round, count) in (1..).zip(&self.rounds) {
            count_one(&mut family, &[("round", format!("{round}"))], *count)?;
        }
        let help = "Rounds released without a hole that did not show in time.";
        page.counter("gimlet_holes_missed", help, self.holes_missed)?;
        let help = "Outcomes that nobody waited for.";
        page.counter("gimlet_stray_outcomes", help, self.stray_outcomes)?;
        let help = "From the request to the word that a direct connection stands.";
        page.histogram("gimlet_time_to_direct_seconds", help, &self.time_to_direct)
    }
}

impl Relay {
    fn encode(&self, page: &mut Page<'_>) -> fmt::Result {
        page.gauge("gimlet_relay_pairs", "Pairs that are relayed, or about to be.", self.pairs)?;
        page.counter("gimlet_relays_started", "Pairs that both sides joined.", self.started)?;
        page.counter("gimlet_relay_bytes", "Bytes carried, both ways.", self.bytes)?;
        page.counters("gimlet_relays_ended", "Pairs that ended.", "how", &self.ended)?;
        let help = "Requests to join a relay that were not granted.";
        page.counters("gimlet_relays_refused", help, "reason", &self.refused)
    }
}

impl Stun {
    fn encode(&self, page: &mut Page<'_>) -> fmt::Result {
        page.counter("gimlet_stun_requests", "STUN requests answered.", self.answered)?;
        let help = "STUN connections closed because their bytes made no sense.";
        page.counter("gimlet_stun_bad", help, self.bad)?;
        let help = "Probes of peers that are logged in.";
        page.counter("gimlet_probes_tied", help, self.probes_tied)?;
        let help = "Probes that belong to nothing here.";
        page.counter("gimlet_probes_unknown", help, self.probes_unknown)
    }
}

impl EventLoop {
    fn encode(&self, page: &mut Page<'_>) -> fmt::Result {
        let help = "How long turns of the event loop took: others wait that long.";
        page.histogram("gimlet_loop_turn_seconds", help, &self.turns)?;
        let help = "How late timers fired.";
        page.histogram("gimlet_loop_timer_lag_seconds", help, &self.timer_lag)?;
        let help = "Handlers of one event that took more than 10 ms.";
        page.counter("gimlet_loop_slow_handlers", help, self.slow_handlers)
    }
}

/// Under the names that all exporters use. What the system doesn't say is left out.
impl Process {
    fn encode(&self, page: &mut Page<'_>) -> fmt::Result {
        if let Some(bytes) = self.resident_memory_bytes {
            page.gauge("process_resident_memory_bytes", "Resident memory.", bytes)?;
        }
        if let Some(seconds) = self.cpu_seconds {
            page.counter("process_cpu_seconds", "CPU time.", seconds)?;
        }
        if let Some(count) = self.open_descriptors {
            page.gauge("process_open_fds", "Open descriptors.", count)?;
        }
        if let Some(count) = self.descriptor_limit {
            page.gauge("process_max_fds", "Descriptors that may be open.", count)?;
        }
        Ok(())
    }
}

/// What has been written of the page.
struct Page<'a>(DescriptorEncoder<'a>);

impl Page<'_> {
    fn describe(
        &mut self,
        name: &'static str,
        help: &str,
        kind: MetricType,
    ) -> Result<MetricEncoder<'_>, fmt::Error> {
        self.0.encode_descriptor(name, help, None, kind)
    }

    /// `_total` is appended to the name.
    fn counter(
        &mut self,
        name: &'static str,
        help: &str,
        value: impl prometheus_client::encoding::EncodeCounterValue,
    ) -> fmt::Result {
        let mut encoder = self.describe(name, help, MetricType::Counter)?;
        encoder.encode_counter::<NoLabelSet, _, f64>(&value, None)
    }

    fn counters(
        &mut self,
        name: &'static str,
        help: &str,
        label: &'static str,
        counts: &Counts,
    ) -> fmt::Result {
        let mut family = self.describe(name, help, MetricType::Counter)?;
        for (value, count) in counts {
            count_one(&mut family, &[(label, *value)], *count)?;
        }
        Ok(())
    }

    fn gauge(
        &mut self,
        name: &'static str,
        help: &str,
        value: impl prometheus_client::encoding::EncodeGaugeValue,
    ) -> fmt::Result {
        self.describe(name, help, MetricType::Gauge)?.encode_gauge(&value)
    }

    fn info(&mut self, name: &'static str, help: &str, labels: &[(&str, &str); 1]) -> fmt::Result {
        self.describe(name, help, MetricType::Info)?.encode_info(labels)
    }

    fn histogram(&mut self, name: &'static str, help: &str, times: &Histogram) -> fmt::Result {
        let bounds = times.bounds_seconds.iter().copied().chain([f64::INFINITY]);
        let buckets: Vec<_> = bounds.zip(times.counts.iter().copied()).collect();
        let total = times.counts.iter().sum();
        let exemplars: Option<&HashMap<usize, Exemplar<NoLabelSet, f64>>> = None;
        let mut encoder = self.describe(name, help, MetricType::Histogram)?;
        encoder.encode_histogram(times.sum_seconds, total, &buckets, exemplars)
    }
}

fn count_one(
    family: &mut MetricEncoder<'_>,
    labels: &impl EncodeLabelSet,
    count: u64,
) -> fmt::Result {
    family.encode_family(labels)?.encode_counter::<NoLabelSet, _, f64>(&count, None)
}
