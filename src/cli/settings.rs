//! What holds for one run: the command line before the environment before the settings file.

use std::collections::HashSet;

use super::address_book::AddressBook;
use super::args::{Global, PortMapping};
use super::config::Config;
use super::exit::Failure;
use super::home::{Environment, Home};
use super::target::Shared;
use crate::identity::ServerAddr;
use crate::limits;
use crate::wire::message::Allow;

/// The settings of one run.
#[derive(Debug)]
pub(crate) struct Settings {
    /// Where the key and the files are.
    pub(crate) home: Home,
    config: Config,
    server: Option<ServerAddr>,
}

impl Settings {
    /// Puts them together. clap has put the command line before the environment already.
    pub(crate) fn load(global: &Global, environment: Environment<'_>) -> Result<Self, Failure> {
        let home = Home::locate(global.home.as_deref(), environment)?;
        let config = Config::load(&home.config())?;
        let named = global.server.as_ref().and_then(|server| server.0.as_ref());
        let server = named.or_else(|| config.server()).cloned();
        Ok(Self { home, config, server })
    }

    /// The rendezvous.
    pub(crate) fn server(&self) -> Result<ServerAddr, Failure> {
        self.server.clone().ok_or_else(|| self.no_server())
    }

    fn no_server(&self) -> Failure {
        let config = self.home.config();
        Failure::usage("no rendezvous is named, and without one peers can't find each other").hint(
            format!(
                "name it with --server KEY@HOST:4000, with GIMLET_SERVER=KEY@HOST:4000 in the \
                 environment, or with server = \"KEY@HOST:4000\" in {}; to run one of your own, \
                 start `gimletd` on a machine that both peers can reach: it prints its KEY@HOST:4000",
                config.display()
            ),
        )
    }

    /// Whom to allow: what the command line says, or else the file.
    pub(crate) fn allow(
        &self,
        book: &AddressBook,
        named: &[String],
        anyone: bool,
    ) -> Result<Allow, Failure> {
        let from_file = named.is_empty() && !anyone;
        let (named, anyone) = match from_file {
            true => (self.config.allow.as_slice(), self.config.allow_any),
            false => (named, anyone),
        };
        if named.len() > limits::ALLOWED_PEERS {
            let most = limits::ALLOWED_PEERS;
            return Err(Failure::usage(format!("at most {most} peers can be allowed by name")));
        }
        let mut peers = Vec::new();
        for text in named {
            peers.push(book.resolve(text)?.id);
        }
        peers.sort_unstable();
        peers.dedup();
        Ok(Allow { anyone, peers })
    }

    /// What to share: what the command line says, or else the file.
    pub(crate) fn services(&self, named: &[Shared]) -> Result<Vec<Shared>, Failure> {
        let services = match named {
            [] => self.config.services(),
            named => named.to_vec(),
        };
        let mut names = HashSet::new();
        if let Some(twice) = services.iter().find(|service| !names.insert(&service.name)) {
            return Err(Failure::usage(format!("{} is named twice", twice.name)));
        }
        match services.is_empty() {
            false => Ok(services),
            true => Err(Failure::usage("nothing to share").hint(format!(
                "for example: gimlet share ssh=22 --allow laptop; or [services] with ssh = 22 in {}",
                self.home.config().display()
            ))),
        }
    }

    /// Whether the router may be asked to map a port: the command line and the file can both say no.
    pub(crate) fn port_mapping(&self, args: PortMapping) -> bool {
        !args.no_port_mapping && self.config.port_mapping.unwrap_or(true)
    }

    /// The rooms to be in: what the command line says, or else the file.
    pub(crate) fn rooms(&self, named: &[String]) -> Result<Vec<String>, Failure> {
        let rooms = match named {
            [] => self.config.rooms.clone(),
            named => named.to_vec(),
        };
        if rooms.len() > limits::ROOMS_PER_SESSION {
            let most = limits::ROOMS_PER_SESSION;
            return Err(Failure::usage(format!("one can be in at most {most} rooms at once")));
        }
        let fits = |room: &&String| (1..=limits::ROOM_NAME_BYTES).contains(&room.len());
        match rooms.iter().find(|room| !fits(room)) {
            None => Ok(rooms),
            Some(room) => Err(Failure::usage(format!(
                "{room:?} can't be the name of a room: it has 1 to {} bytes",
                limits::ROOM_NAME_BYTES
            ))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::args::Cli;
    use super::super::exit;
    use super::*;
    use crate::identity::PeerId;
    use clap::Parser;

    fn settings(config: &str, arguments: &[&str]) -> (tempfile::TempDir, Settings) {
        let home = tempfile::tempdir().unwrap();
        std::fs::write(home.path().join("config.toml"), config).unwrap();
        let directory = home.path().to_str().unwrap();
        let line = ["gimlet", "--home", directory, "id"];
        let line = line.iter().chain(arguments).copied();
        let cli = Cli::try_parse_from(line).unwrap();
        let settings = Settings::load(&cli.global, &|_| None).unwrap();
        (home, settings)
    }

    #[test]
    fn the_command_line_comes_before_the_file() {
        let file = "server = \"file.example\"";
        for (flag, host) in [("flag.example", "flag.example"), ("", "file.example")] {
            let (_home, settings) = settings(file, &["--server", flag]);
            assert_eq!(settings.server().unwrap().host, host);
        }
    }

    #[test]
    fn no_server_is_explained() {
        // An empty flag, lest the variable of whoever runs the tests be taken.
        let (_home, settings) = settings("", &["--server", ""]);
        let failure = settings.server().unwrap_err();
        assert_eq!(failure.code, exit::USAGE);
        let hint = failure.hint.unwrap();
        for word in ["--server KEY@HOST:4000", "GIMLET_SERVER", "config.toml", "gimletd"] {
            assert!(hint.contains(word), "{hint}");
        }
    }

    #[test]
    fn allowed_on_the_command_line_replaces_the_file() {
        let [a, b] = [1, 2].map(|byte| PeerId::from_bytes([byte; 15]));
        let (home, settings) = settings(&format!("allow = [\"{a}\"]\nallow_any = true"), &[]);
        let book = AddressBook::load(home.path().join("peers.toml")).unwrap();
        let allow = settings.allow(&book, &[], false).unwrap();
        assert_eq!(allow, Allow { anyone: true, peers: vec![a] });
        let allow = settings.allow(&book, &[b.to_string(), b.to_string()], false).unwrap();
        assert_eq!(allow, Allow { anyone: false, peers: vec![b] });
        let failure = settings.allow(&book, &["nobody".to_owned()], false).unwrap_err();
        assert_eq!(failure.code, exit::NOT_ALLOWED);
    }

    #[test]
    fn services_and_rooms_on_the_command_line_replace_the_file() {
        let (_home, settings) = settings("rooms = [\"r\"]\n[services]\nssh = 22", &[]);
        assert_eq!(settings.services(&[]).unwrap()[0].name, "ssh");
        let web: Shared = "web=80".parse().unwrap();
        let twice = [web.clone(), web];
        assert_eq!(settings.services(&twice[..1]).unwrap(), twice[..1]);
        settings.services(&twice).unwrap_err();
        assert_eq!(settings.rooms(&[]).unwrap(), ["r"]);
        assert_eq!(settings.rooms(&["s".to_owned()]).unwrap(), ["s"]);
        settings.rooms(&[String::new()]).unwrap_err();
        settings.rooms(&["x".repeat(65)]).unwrap_err();
    }

    #[test]
    fn the_router_is_asked_unless_somebody_says_no() {
        let [silent, no] = [false, true].map(|no_port_mapping| PortMapping { no_port_mapping });
        let (_home, asked) = settings("", &[]);
        assert_eq!([silent, no].map(|args| asked.port_mapping(args)), [true, false]);
        let (_home, asked) = settings("port_mapping = false", &[]);
        assert_eq!([silent, no].map(|args| asked.port_mapping(args)), [false, false]);
    }

    #[test]
    fn nothing_to_share_is_explained() {
        let (_home, settings) = settings("", &[]);
        assert!(settings.services(&[]).unwrap_err().hint.unwrap().contains("gimlet share ssh=22"));
    }
}
