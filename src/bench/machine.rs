//! Where a figure was measured, and with what: without that it means nothing.

use serde::Serialize;

use super::proc;
use super::target::Target;
use crate::net::sys;

/// What every run states.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Machine {
    command: String,
    cpu: String,
    cores: usize,
    memory_bytes: u64,
    kernel: String,
    bench: String,
    build: &'static str,
    server: String,
    descriptors: u64,
    somaxconn: String,
    local_ports: String,
}

impl Machine {
    /// This one.
    pub(super) fn look(target: Option<&Target>) -> Self {
        let model = |text: &str| {
            let line = text.lines().find_map(|line| line.strip_prefix("model name"))?;
            Some(line.trim_start_matches([' ', '\t', ':']).to_owned())
        };
        let cpuinfo = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        let total = proc::total_memory().unwrap_or_default();
        let server = target.map_or_else(|| "none".to_owned(), |target| target.version.clone());
        Self {
            command: std::env::args().collect::<Vec<_>>().join(" "),
            cpu: model(&cpuinfo).unwrap_or_else(|| "unknown".into()),
            cores: std::thread::available_parallelism().map_or(0, usize::from),
            memory_bytes: total,
            kernel: format!("Linux {}", proc::words("/proc/sys/kernel/osrelease")),
            bench: concat!("gimlet-bench ", env!("CARGO_PKG_VERSION")).into(),
            build: if cfg!(debug_assertions) { "debug" } else { "release" },
            server,
            descriptors: sys::descriptor_limit().unwrap_or_default(),
            somaxconn: proc::words("/proc/sys/net/core/somaxconn"),
            local_ports: proc::words("/proc/sys/net/ipv4/ip_local_port_range"),
        }
    }

    /// For a person.
    pub(super) fn lines(&self) -> Vec<String> {
        let memory = crate::cli::text::bytes(self.memory_bytes);
        let mut lines = vec![
            format!("command  {}", self.command),
            format!("machine  {}, {} cores, {memory}; {}", self.cpu, self.cores, self.kernel),
            format!("bench    {}, {} build", self.bench, self.build),
            format!("server   {}", self.server),
            format!(
                "limits   {} descriptors a process, somaxconn {}, local ports {}",
                self.descriptors, self.somaxconn, self.local_ports
            ),
        ];
        if self.build == "debug" {
            lines.push("         this is a debug build: the figures mean nothing".into());
        }
        lines
    }
}
