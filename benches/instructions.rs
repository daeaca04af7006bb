//! How many instructions an operation takes, by callgrind: the same number on a busy machine, so that a
//! test run can hold it. Fails if one takes more than its bound.
//!
//! ```text
//! cargo bench --bench instructions
//! ```
//!
//! Each operation runs twice, a few times and many times, in a process of its own under valgrind; the
//! difference is what the operation takes, without what it takes to begin.

mod world;

use std::env;
use std::hint::black_box;
use std::process::{Command, ExitCode};

use gimlet::identity::PublicKey;
use gimlet::wire::frame::{FrameReader, write_frame};
use gimlet::wire::message::{Message, Port};
use gimlet::wire::stun::{self, Probe};

use self::world::{World, choose_strategies, set_and_clear_timers};

/// Sessions and deadlines that are there already.
const OTHERS: u32 = 1_000;

/// How often an operation is run: to begin with, and in all.
const RUNS: [u64; 2] = [100, 1_100];

type Operation = Box<dyn FnMut()>;

/// Its name, how to make one, and the instructions that it may take.
type Entry = (&'static str, fn() -> Operation, u64);

/// An operation may take what it took when this was written, and a tenth. Hash tables begin with a random seed, so that the numbers differ by a few.
const OPERATIONS: [Entry; 8] = [
    ("frame-encode", frame_encode, 50),
    ("frame-decode", frame_decode, 90),
    ("message", message, 300),
    ("stun", stun, 780),
    ("login-and-logout", login_and_logout, 9980),
    ("introduction", introduction, 15_970),
    ("timer", timer, 880),
    ("strategy", strategy, 220),
];

fn main() -> ExitCode {
    let words: Vec<String> = env::args().skip(1).collect();
    if let [name, runs] = &words[..]
        && let Some((_, make, _)) = OPERATIONS.iter().find(|(known, ..)| known == name)
        && let Ok(runs) = runs.parse::<u64>()
    {
        let mut operation = make();
        (0..runs).for_each(|_| operation());
        return ExitCode::SUCCESS;
    }
    match check_all() {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("instructions: {error}");
            ExitCode::from(2)
        }
    }
}

/// Whether all operations keep their bounds.
fn check_all() -> Result<bool, String> {
    println!("{:<18} {:>12} {:>12}", "operation", "instructions", "at most");
    let mut kept = true;
    for (name, _, bound) in OPERATIONS {
        let [few, many] = RUNS;
        let instructions = (count(name, many)? - count(name, few)?) / (many - few);
        let remark = if instructions > bound { "  too many" } else { "" };
        println!("{name:<18} {instructions:>12} {bound:>12}{remark}");
        kept &= instructions <= bound;
    }
    Ok(kept)
}

/// What callgrind counts for so many runs, their beginning included.
fn count(name: &str, runs: u64) -> Result<u64, String> {
    let own = env::current_exe().map_err(|error| error.to_string())?;
    let output = Command::new("valgrind")
        .args(["--tool=callgrind", "--callgrind-out-file=/dev/null"])
        .arg(own)
        .args([name, &runs.to_string()])
        .output()
        .map_err(|error| format!("valgrind: {error} (Debian: apt-get install valgrind)"))?;
    let said = String::from_utf8_lossy(&output.stderr);
    let collected =
        said.lines().find_map(|line| line.split_once("Collected :")?.1.trim().parse().ok());
    collected.ok_or_else(|| format!("valgrind said nothing of instructions for {name}:\n{said}"))
}

// ---- operations ----------------------------------------------------------------------------------

fn frame_encode() -> Operation {
    let mut out = Vec::new();
    Box::new(move || {
        out.clear();
        write_frame(&mut out, |out| out.extend_from_slice(&[7; 64]));
        black_box(&out);
    })
}

fn frame_decode() -> Operation {
    let mut bytes = Vec::new();
    write_frame(&mut bytes, |out| out.extend_from_slice(&[7; 64]));
    let mut reader = FrameReader::new();
    Box::new(move || {
        let (used, body) = reader.next(&mut bytes, 100).expect("a frame");
        black_box((used, body.map(|body| body.len())));
    })
}

fn message() -> Operation {
    let peer = PublicKey::from_bytes([1; 32]).peer_id();
    let message = Message::Introduce { request: 1, peer, from: Port::Main };
    let mut out = Vec::new();
    Box::new(move || {
        out.clear();
        message.encode(&mut out);
        black_box(Message::decode(&out).expect("a message"));
    })
}

/// A request read and answered.
fn stun() -> Operation {
    let probe = Probe { token: [1; 16], tag: 2, round: 1, local_port: 4000 };
    let (mut request, mut answer) = (Vec::new(), Vec::new());
    stun::binding_request(&mut request, &[3; 12], Some(&probe));
    let mapped = "203.0.113.1:1000".parse().expect("an address");
    let other = "198.51.100.1:8001".parse().ok();
    Box::new(move || {
        black_box(stun::decode(black_box(&request)).expect("a request"));
        answer.clear();
        stun::binding_success(&mut answer, &[3; 12], mapped, other, None);
        black_box(&answer);
    })
}

fn login_and_logout() -> Operation {
    let mut world = World::with_sessions(OTHERS);
    Box::new(move || world.log_in_and_out())
}

fn introduction() -> Operation {
    let mut world = World::with_sessions(OTHERS);
    Box::new(move || world.introduce())
}

fn timer() -> Operation {
    Box::new(set_and_clear_timers(OTHERS))
}

fn strategy() -> Operation {
    Box::new(choose_strategies())
}
