//! OpenSSH through a pipe, as its users would set it up.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::data::noise;
use crate::namespace::{Namespace, require_tool};
use crate::nat::Nat;
use crate::peers::{Peer, Rendezvous};
use crate::programs::{Program, Stdout};
use crate::sockets::{SOON, at};
use crate::topology::Lab;

#[test]
fn ssh_runs_a_command_and_copies_a_file_through_a_pipe() {
    require_tool("ssh", "openssh-client");
    require_tool("/usr/sbin/sshd", "openssh-server");
    let lab = Lab::plan().between(Nat::PRESERVING, Nat::EIM).delay_ms(5).build();
    let rendezvous = Rendezvous::start(&lab);
    let a = Peer::new(&lab.a, &rendezvous);
    let b = Peer::new(&lab.b, &rendezvous);
    let keys = Keys::generate(&b);
    let service = at([127, 0, 0, 1], 2222);
    let _sshd = start_sshd(&lab.b.namespace, service, &keys);
    let _share = b.share("ssh", service, &a);
    let options = options(&a, &keys);
    let host = format!("root@{}", b.id);

    let mut ssh = lab.a.namespace.command("ssh");
    ssh.args(&options).args([&host, "echo greetings from $((6 * 7))"]);
    let mut ssh = Program::start("ssh", ssh, Stdout::Lines);
    ssh.line("greetings", SOON, |line| line == "greetings from 42");
    ssh.succeed(SOON);

    let (original, copy) = (a.scratch("original"), b.scratch("copy"));
    fs::write(&original, noise(3, 3 << 20)).unwrap();
    let mut scp = lab.a.namespace.command("scp");
    scp.args(&options).arg(&original).arg(format!("{host}:{}", copy.display()));
    Program::start("scp", scp, Stdout::Lines).succeed(SOON);
    assert!(fs::read(original).unwrap() == fs::read(copy).unwrap(), "the copy differs");
}

struct Keys {
    directory: PathBuf,
    host: PathBuf,
    user: PathBuf,
}

impl Keys {
    fn generate(peer: &Peer<'_>) -> Self {
        let generate = |name| {
            let path = peer.scratch(name);
            let mut keygen = Command::new("ssh-keygen");
            keygen.args(["-q", "-t", "ed25519", "-N", "", "-f"]).arg(&path);
            Program::start("ssh-keygen", keygen, Stdout::Lines).succeed(SOON);
            path
        };
        let (host, user) = (generate("host_key"), generate("user_key"));
        Self { directory: peer.scratch(""), host, user }
    }
}

fn start_sshd(namespace: &Namespace, service: SocketAddr, keys: &Keys) -> Program {
    // sshd does not start without it; distributions make it at boot.
    fs::create_dir_all("/run/sshd").unwrap();
    let config = keys.directory.join("sshd_config");
    let (host_key, user_key) = (keys.host.display(), keys.user.display());
    let lines = format!(
        "ListenAddress {service}
        HostKey {host_key}
        AuthorizedKeysFile {user_key}.pub
        PidFile none
        StrictModes no
        PermitRootLogin prohibit-password
        PasswordAuthentication no
        UsePAM no
        Subsystem sftp internal-sftp\n"
    );
    fs::write(&config, lines).unwrap();
    // Only by its full path does it start itself anew for each client.
    let mut sshd = namespace.command("/usr/sbin/sshd");
    sshd.args(["-D", "-e", "-f"]).arg(config);
    let program = Program::start("sshd", sshd, Stdout::Lines);
    program.line("line about listening", SOON, |line| line.contains("Server listening"));
    program
}

fn options(a: &Peer<'_>, keys: &Keys) -> Vec<String> {
    let known_hosts = a.scratch("known_hosts");
    let settings = [
        format!("ProxyCommand={}", a.shell_line("pipe %h/ssh")),
        format!("UserKnownHostsFile={}", Path::display(&known_hosts)),
        format!("IdentityFile={}", keys.user.display()),
        "StrictHostKeyChecking=accept-new".to_owned(),
        "IdentitiesOnly=yes".to_owned(),
        "BatchMode=yes".to_owned(),
    ];
    let from_nowhere = ["-F".to_owned(), "/dev/null".to_owned()].into_iter();
    from_nowhere.chain(settings.into_iter().flat_map(|s| ["-o".to_owned(), s])).collect()
}
