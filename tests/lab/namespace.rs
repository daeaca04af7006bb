//! A network namespace: a machine of the lab, as far as its network goes.

use std::fs::{self, File};
use std::io::{self, Write};
use std::os::fd::{AsFd, AsRawFd};
use std::process::{Command, Stdio};
use std::sync::Once;
use std::thread;

use socket2::{Domain, Protocol, Socket, Type};

use crate::sys;

/// Nameless, and held by a descriptor: it goes away with its last process, thread and descriptor.
/// From a shell: `nsenter --net=PATH`, with the path that [`Namespace::path`] gives.
pub(crate) struct Namespace {
    name: &'static str,
    file: File,
}

impl Namespace {
    pub(crate) fn new(name: &'static str) -> Self {
        require_tools();
        let born = thread::spawn(|| {
            sys::unshare_network()?;
            File::open("/proc/thread-self/ns/net")
        });
        let file = born.join().unwrap().expect("a new network namespace (is this root?)");
        let namespace = Self { name, file };
        // What a namespace inherits from the machine would make the lab differ between machines.
        for (key, value) in [
            ("ipv4/conf/all/rp_filter", "0"),
            ("ipv4/conf/default/rp_filter", "0"),
            ("ipv4/ip_forward", "0"),
            // Duplicate address detection keeps an address unusable for a second.
            ("ipv6/conf/all/accept_dad", "0"),
            ("ipv6/conf/default/accept_dad", "0"),
            ("ipv6/conf/all/disable_ipv6", "0"),
            ("ipv6/conf/default/disable_ipv6", "0"),
        ] {
            namespace.sysctl(key, value);
        }
        namespace.ip("link set lo up");
        namespace
    }

    pub(crate) fn name(&self) -> &'static str {
        self.name
    }

    /// Where other programs find this namespace, as long as this process lives.
    pub(crate) fn path(&self) -> String {
        format!("/proc/{}/fd/{}", std::process::id(), self.file.as_raw_fd())
    }

    /// Runs `work` inside. A socket stays in the namespace that it was made in, so most work is
    /// short: make the socket, and use it outside.
    pub(crate) fn run<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        let inside = || {
            sys::enter_network(self.file.as_fd()).expect("enter a namespace");
            work()
        };
        thread::scope(|scope| match scope.spawn(inside).join() {
            Ok(value) => value,
            Err(panic) => std::panic::resume_unwind(panic),
        })
    }

    /// A command that will run inside, and is killed when the calling thread ends.
    pub(crate) fn command(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        sys::confine(&mut command, self.file.as_fd());
        command
    }

    /// Runs lines of `ip` commands, such as `link set lo up`.
    pub(crate) fn ip(&self, lines: &str) {
        self.feed("ip", &["-batch", "-"], lines);
    }

    pub(crate) fn nft(&self, ruleset: &str) {
        self.feed("nft", &["-f", "-"], ruleset);
    }

    /// The rules as `nft` lists them.
    pub(crate) fn rules(&self) -> String {
        let output = self.command("nft").args(["list", "ruleset"]).output().expect("nft");
        assert!(output.status.success(), "nft list ruleset in {}", self.name);
        String::from_utf8(output.stdout).unwrap()
    }

    pub(crate) fn sysctl(&self, key: &str, value: &str) {
        let path = format!("/proc/sys/net/{key}");
        self.run(|| fs::write(&path, value)).unwrap_or_else(|e| panic!("{path}: {e}"));
    }

    /// The NAT forgets every connection and every mapping, as if it had restarted.
    pub(crate) fn flush_conntrack(&self) {
        self.run(delete_all_conntrack_entries).expect("flush conntrack");
    }

    fn feed(&self, program: &str, arguments: &[&str], input: &str) {
        let mut command = self.command(program);
        command.args(arguments).stdin(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap_or_else(|e| panic!("{program}: {e}"));
        child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
        let output = child.wait_with_output().unwrap();
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{program} in {}: {stderr}\n{input}", self.name);
    }
}

/// What `conntrack -F` does, without the tool: one netlink message.
fn delete_all_conntrack_entries() -> io::Result<()> {
    const IPCTNL_MSG_CT_DELETE: u16 = 2;
    let kind = ((libc::NFNL_SUBSYS_CTNETLINK as u16) << 8) | IPCTNL_MSG_CT_DELETE;
    let flags = (libc::NLM_F_REQUEST | libc::NLM_F_ACK) as u16;

    // struct nlmsghdr: length, type, flags, sequence, port; struct nfgenmsg: family, version, id.
    let mut request = Vec::new();
    request.extend(20u32.to_ne_bytes());
    request.extend(kind.to_ne_bytes());
    request.extend(flags.to_ne_bytes());
    request.extend([0; 8]);
    request.extend([libc::AF_UNSPEC as u8, 0, 0, 0]);

    let netlink = Domain::from(libc::AF_NETLINK);
    let protocol = Protocol::from(libc::NETLINK_NETFILTER);
    let socket = Socket::new(netlink, Type::RAW, Some(protocol))?;
    socket.send(&request)?;

    // struct nlmsgerr: a header of 16 bytes, then the error, 0 for success.
    let mut reply = [0; 256];
    let length = io::Read::read(&mut &socket, &mut reply)?;
    assert!(length >= 20, "a netlink answer of {length} bytes");
    match i32::from_ne_bytes(reply[16..20].try_into().unwrap()) {
        0 => Ok(()),
        error => Err(io::Error::from_raw_os_error(-error)),
    }
}

fn require_tools() {
    static CHECKED: Once = Once::new();
    CHECKED.call_once_force(|_| {
        assert!(sys::is_root(), "the NAT lab makes network namespaces: run it as root");
        assert!(fs::exists("/dev/net/tun").unwrap(), "the NAT lab needs /dev/net/tun");
        require_tool("ip", "iproute2");
        require_tool("nft", "nftables");
    });
}

pub(crate) fn require_tool(program: &str, package: &str) {
    let mut version = Command::new(program);
    version.arg("-V").stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    let found = version.status().is_ok();
    assert!(found, "the NAT lab needs the program {program}: apt-get install {package}");
}
