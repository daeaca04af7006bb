//! The floor beside a mode: the same shape against a bare server, measured in the same run.

use std::process::{Command, Stdio};

use super::exchange::{After, Conns, Exchange};
use super::floor_server::Listening;
use super::meter::{Cost, Meter};
use super::tally::Tally;
use super::target::Program;
use super::vigil::Vigil;
use crate::cli::exit::{self, Failure};

/// What is said in each exchange, in bytes.
const WORD: usize = 16;

/// What is forwarded each time, in bytes.
const MESSAGE: usize = 64;

/// A bare server, in a process of its own.
#[derive(Debug)]
pub(super) struct Floor {
    pub(super) program: Program,
    pub(super) listening: Listening,
}

/// A shape of the floor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Shape {
    /// Accept, and answer 16 bytes; the connection stays.
    Accept,
    /// The same, and the client closes.
    AcceptClose,
    /// Answer 16 bytes, again and again.
    Answer,
    /// Forward 64 bytes to another connection.
    Forward,
}

impl Shape {
    pub(super) const ALL: [Self; 4] =
        [Self::Accept, Self::AcceptClose, Self::Answer, Self::Forward];

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Accept => "floor: accept, 16 bytes in and out",
            Self::AcceptClose => "floor: accept, 16 bytes, close",
            Self::Answer => "floor: 16 bytes in and out",
            Self::Forward => "floor: 64 bytes forwarded",
        }
    }
}

impl Floor {
    pub(super) fn start() -> Result<Self, Failure> {
        let mut command = Command::new(std::env::current_exe()?);
        let (program, line) = Program::start(command.arg("floor-server").stdin(Stdio::piped()))?;
        let listening = serde_json::from_str(&line)
            .map_err(|error| Failure::new(exit::OTHER, format!("the floor: {error}: {line}")))?;
        Ok(Self { program, listening })
    }

    /// Measures a shape: so many operations, so many of them at once.
    pub(super) fn measure(
        &self,
        shape: Shape,
        count: u64,
        in_flight: usize,
        vigil: &mut Vigil,
    ) -> Result<(Tally, Cost), Failure> {
        let (to, size) = match shape {
            Shape::Forward => (self.listening.forward, MESSAGE),
            _ => (self.listening.answer, WORD),
        };
        let request = vec![0x5a; size];
        let answer = match shape {
            Shape::Forward => whole::<MESSAGE>,
            _ => whole::<WORD>,
        };
        let exchange = Exchange { to, request, answer, count, in_flight };
        let mut conns = Conns::towards(to)?;
        vigil.phase(shape.name());
        match shape {
            Shape::Answer => conns.open(to, in_flight, vigil)?,
            Shape::Forward => conns.open(to, 2 * in_flight, vigil)?,
            Shape::Accept | Shape::AcceptClose => {}
        }
        let meter = self.meter()?;
        let tally = match shape {
            Shape::Accept => conns.one_each(&exchange, After::Hold, vigil),
            Shape::AcceptClose => conns.one_each(&exchange, After::Close, vigil),
            Shape::Answer => conns.persistent(&exchange, vigil),
            Shape::Forward => conns.forwarded(&exchange, vigil),
        }?;
        Ok((tally, meter.stop()?))
    }

    pub(super) fn meter(&self) -> std::io::Result<Meter> {
        Meter::start(Some(self.program.pid()), &[std::process::id()])
    }
}

fn whole<const SIZE: usize>(got: &[u8]) -> Result<Option<usize>, String> {
    Ok((got.len() >= SIZE).then_some(SIZE))
}
