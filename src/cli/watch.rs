//! `gimlet watch`: who comes and goes.

use super::args::WatchArgs;
use super::exit::Failure;
use super::session::{Context, Happening, Part, Session, stopped_by};
use crate::identity::PeerId;
use crate::limits;

/// Tells until a signal ends it.
pub(crate) fn run(context: &Context, args: &WatchArgs) -> Result<(), Failure> {
    let rooms = context.settings.rooms(&args.room)?;
    let peers = watched(context, args, &rooms)?;
    let mut session = Session::open(context, Part::Watch)?;
    header(context, &peers, &rooms)?;
    session.watch(peers);
    session.join(rooms);
    loop {
        match session.next(None)? {
            Happening::Event(event) => session.announce(event)?,
            Happening::Signal(signal) => return Err(stopped_by(signal)),
            Happening::Ready(_) | Happening::Deadline => {}
        }
    }
}

/// Those who are named; everybody in the address book if nobody is, and no room either.
fn watched(context: &Context, args: &WatchArgs, rooms: &[String]) -> Result<Vec<PeerId>, Failure> {
    let mut peers = Vec::new();
    for text in &args.peers {
        peers.push(context.book.resolve(text)?.id);
    }
    if args.peers.is_empty() && args.room.is_empty() {
        peers = context.book.iter().map(|(_, id)| id).collect();
        if peers.is_empty() && rooms.is_empty() {
            return Err(Failure::usage("nobody to watch: the address book is empty")
                .hint("gimlet watch ID, gimlet peer add NAME ID, or gimlet watch --room ROOM"));
        }
    }
    peers.sort_unstable();
    peers.dedup();
    match peers.len() {
        count if count > limits::WATCHED_PEERS => {
            let most = limits::WATCHED_PEERS;
            Err(Failure::usage(format!("{count} peers are too many to watch: {most} at most")))
        }
        _ => Ok(peers),
    }
}

fn header(context: &Context, peers: &[PeerId], rooms: &[String]) -> Result<(), Failure> {
    let names = peers.iter().map(|peer| context.book.named(*peer).name);
    let rooms = rooms.iter().map(|room| format!("room {room}"));
    let all: Vec<_> = names.chain(rooms).collect();
    context.output.say(&format!("watching {}", all.join(", ")))
}
