//! Every bound in one place: what it limits, its unit, and why it has this value.
//!
//! What a stranger can make grow has a bound, and the bound is checked before the work is done.
//! Nothing here imports anything, so that every layer may read it.

use std::time::Duration;

// ---- bytes on the wire -------------------------------------------------------------------------

/// Largest body of a frame, in bytes: a record of [`RECORD_PAYLOAD_BYTES`] with its type and its tag.
pub const FRAME_BYTES: usize = 1 + RECORD_PAYLOAD_BYTES + TAG_BYTES;

/// Largest handshake frame, in bytes: a login with full lists, and early data, fit with room to grow.
/// What an unauthenticated stranger can make us keep is this much.
pub const HANDSHAKE_FRAME_BYTES: usize = 12 * 1024;

/// Data in one record, in bytes: TLS's choice (RFC 8446 §5.1). The reader can hand on the first
/// bytes of a large write early, and the tag and the header stay below a thousandth of the load.
pub const RECORD_PAYLOAD_BYTES: usize = 16 * 1024;

/// Authentication tag of ChaCha20-Poly1305, in bytes (RFC 8439 §2.8).
pub const TAG_BYTES: usize = 16;

/// Data that may travel with the first handshake message of a connection, in bytes: the first
/// words of any protocol (an ssh banner, an HTTP request) fit.
pub const EARLY_DATA_BYTES: usize = 4 * 1024;

/// A human-readable text in a message, in bytes.
pub const TEXT_BYTES: usize = 512;

/// The name of a service, in bytes.
pub const SERVICE_NAME_BYTES: usize = 64;

/// The name of a room, in bytes.
pub const ROOM_NAME_BYTES: usize = 64;

// ---- lists in messages ---------------------------------------------------------------------------

/// Peers that one peer may allow by name. 15 bytes each while it is logged in.
pub const ALLOWED_PEERS: usize = 256;

/// Addresses of its own interfaces that a peer may name: more than a laptop with VPNs has.
pub const HOST_ADDRESSES: usize = 8;

/// Endpoints at which routers map a peer's main port because it asked them to: one of each family, and a
/// second router.
pub const MAPPED_ENDPOINTS: usize = 4;

/// External addresses of a NAT that a peer may name beside the one that S sees. A larger pool is hopeless
/// to dial.
pub const POOL_ADDRESSES: usize = 7;

/// Candidates that one side may have in one introduction: its own, and 16 predicted ports.
pub const CANDIDATES: usize = 40;

/// Hole endpoints that a rendezvous may announce.
pub const HOLE_ENDPOINTS: usize = 8;

/// Peers that one session may watch by name.
pub const WATCHED_PEERS: usize = 256;

/// Sessions that may watch one peer: what one coming or going costs at most.
pub const WATCHERS_PER_PEER: usize = 256;

/// Watches in all: a few for each of a million sessions. Their memory is bounded with them.
pub const WATCHES: usize = 4 * SESSIONS;

/// Rooms that one session may be in.
pub const ROOMS_PER_SESSION: usize = 4;

/// Sessions in one room: a coming or going costs this many messages at most, so never N².
pub const ROOM_MEMBERS: usize = 256;

/// Rooms in all.
pub const ROOMS: usize = 16 * 1024;

// ---- the rendezvous ------------------------------------------------------------------------------

/// Sessions in all. The descriptor limit is usually reached first.
pub const SESSIONS: usize = 1_000_000;

/// Connections to the main port from one address (IPv4) or one /64 (IPv6), sessions included. Many
/// peers may sit behind one carrier NAT, but not all of the table may belong to one stranger.
pub const LINKS_PER_ADDRESS: usize = 16 * 1024;

/// Connections whose handshake is not finished, in all.
pub const HANDSHAKES: usize = 8 * 1024;

/// Connections whose handshake is not finished, from one address (IPv4) or one /64 (IPv6): one stranger
/// can't take all of [`HANDSHAKES`], and thousands of peers behind one NAT may still come back at once.
pub const HANDSHAKES_PER_ADDRESS: usize = 4096;

/// A handshake on the main port must end within this time.
pub const HANDSHAKE_TIME: Duration = Duration::from_secs(10);

/// Sessions of one key that only call and are not reachable: parallel `gimlet pipe`s.
pub const CALLERS_PER_PEER: usize = 1024;

/// Introductions in progress per session, asked for or answered: a `gimlet forward` under load.
pub const INTRODUCTIONS_PER_SESSION: usize = 2048;

/// Introductions in progress in all.
pub const INTRODUCTIONS: usize = 128 * 1024;

/// An introduction ends at the latest after this time: three rounds and their releases fit.
pub const INTRODUCTION_TIME: Duration = Duration::from_secs(30);

/// A peer that was asked for a fresh hole must show it within this time, or the round is released
/// without it. Two lost packets still fit.
pub const HOLE_TIME: Duration = Duration::from_secs(4);

/// Longest time by which the nearer peer's dial is held back to meet the other's.
pub const RELEASE_DELAY: Duration = Duration::from_millis(500);

/// Peers that left and whose consent is remembered, so that those whom they allow are told
/// "offline", and strangers nothing.
pub const DEPARTED_PEERS: usize = 4096;

/// Peers that come back each second, at least, after a rendezvous has told them to go: a login costs S some
/// 150 µs of CPU time, so that this is a sixth of a core.
pub const RETURNS_PER_SECOND: u32 = 1000;

/// Longest time within which peers come back that were told to go, each at a moment of its own.
pub const RETURN_LONGEST: Duration = Duration::from_secs(60);

/// How long a departed peer's consent is remembered.
pub const DEPARTED_TIME: Duration = Duration::from_secs(24 * 3600);

/// Networks whose NAT is remembered, and pairs of networks for which is remembered what connected them.
/// Some 100 bytes each.
pub const NETWORKS: usize = 64 * 1024;

/// How long that is remembered: routers change seldom, but addresses are handed on to others.
pub const NETWORK_TIME: Duration = Duration::from_secs(3600);

/// Frames of a type that we don't know, per session, before it is closed: room for a newer
/// version, none for a flood.
pub const UNKNOWN_MESSAGES: u32 = 1000;

/// Bytes that wait for a slow peer on its main connection before it is closed.
pub const MAIN_BACKLOG_BYTES: usize = 256 * 1024;

/// How long a dial back to a peer may take: a SYN, and the one that the kernel sends after a second, with
/// time for its answer.
pub const DIAL_BACK_TIME: Duration = Duration::from_secs(2);

/// Dials back in progress, in all: two descriptors each. Peers that come back together, after a restart,
/// don't all learn how their NATs filter.
pub const DIAL_BACKS: usize = 256;

/// Dials back that one address (IPv4) or one /64 (IPv6) may have made in a minute: two SYNs each, and as
/// many again where they are not answered. A carrier NAT with more peers has shown its filter by then.
pub const DIAL_BACKS_PER_ADDRESS: u32 = 60;

/// The minute of [`DIAL_BACKS_PER_ADDRESS`].
pub const DIAL_BACK_PERIOD: Duration = Duration::from_secs(60);

/// Addresses whose dials back are counted: all that [`DIAL_BACKS`] at a time can be in a minute.
pub const DIAL_BACK_ADDRESSES: usize = 8192;

/// Connections to the hole ports from one address (IPv4) or one /64 (IPv6).
pub const HOLES_PER_ADDRESS: usize = 4096;

/// Connections to the hole ports in all. Beyond the descriptor limit less [`RESERVED_DESCRIPTORS`] none
/// is accepted either: logins go before STUN.
pub const HOLE_LINKS: usize = 64 * 1024;

/// Descriptors that strangers on the hole ports can't take from logins.
pub const RESERVED_DESCRIPTORS: usize = 1024;

/// Holes that a peer may have ready before it asks for anything: a burst of requests finds some, and
/// S keeps no more than these for each session.
pub const SPARE_HOLES: usize = 8;

/// A hole connection that says nothing is closed after this time. It outlives a spare hole that is
/// used at its last moment, and the longest punch after that.
pub const HOLE_IDLE_TIME: Duration = Duration::from_secs(120);

/// Longest delay after which a STUN request may ask for its answer: what RFC 5382 §5 (REQ-5) asks of a
/// NAT, 2 hours and 4 minutes, and a minute.
pub const DELAYED_ANSWER_TIME: Duration = Duration::from_secs(2 * 3600 + 300);

/// STUN requests that wait for their delayed answer, of one address (IPv4) or one /64 (IPv6): four people
/// may measure at once.
pub const DELAYED_ANSWERS_PER_ADDRESS: usize = 4 * IDLE_PROBES;

/// … in all: a descriptor each, for up to two hours.
pub const DELAYED_ANSWERS: usize = 4096;

/// Bytes that wait for a slow STUN client before it is closed.
pub const HOLE_BACKLOG_BYTES: usize = 4 * 1024;

// ---- the relay -----------------------------------------------------------------------------------

/// Pairs that a rendezvous relays at once, those of which one side has yet to join included: two
/// descriptors each, and two pipes more while both of their readers are slow.
pub const RELAYS: usize = 4096;

/// … of one peer: a browser behind `gimlet forward` opens some thirty connections to one site.
pub const RELAYS_PER_PEER: usize = 64;

/// How long the first side of a relay waits for the other: a head start, and three lost packets.
pub const RELAY_JOIN_TIME: Duration = Duration::from_secs(15);

/// Bytes that one pair may have relayed each second, both ways together: a film, or a remote screen.
pub const RELAY_BYTES_PER_SECOND: u64 = 8 << 20;

/// Bytes that are relayed each second in all: half of a gigabit link, which they cross twice.
pub const RELAY_TOTAL_BYTES_PER_SECOND: u64 = 64 << 20;

/// What a pair did not use of its rate is kept for this long: short transfers come at full speed.
pub const RELAY_BURST_TIME: Duration = Duration::from_millis(250);

/// A pair that is silent for this long is closed: a NAT gives an idle connection 2 hours and 4
/// minutes (RFC 5382 §5, REQ-5). The kernel notices before that if one side is gone.
pub const RELAY_IDLE_TIME: Duration = Duration::from_secs(2 * 3600 + 240);

/// What a punch has for itself before the relay is joined, where what both NATs have shown leaves hope:
/// a whole round, lost SYNs included, and the beginning of the next. A relayed connection stays relayed,
/// so the direct one is worth the wait.
pub const RELAY_HEAD_START: Duration = Duration::from_secs(3);

/// While a relayed connection lives, a direct way is searched for in the background: first after this
/// time, …
pub const SEARCH_PAUSE: Duration = Duration::from_secs(5);

/// … and then each time after so many times the pause before, …
pub const SEARCH_BACKOFF: u32 = 4;

/// … this often in all: for seven minutes. What was in the way of the punch by chance is gone by then.
pub const SEARCH_TRIES: u32 = 4;

/// Relayed connections of one peer for which a direct way is searched for at once.
pub const SEARCHES: usize = 16;

/// Bytes that a pair moves each way before the others get their turn, and all that S holds of one. As much
/// as a large pipe takes at once: in portions of 256 KiB the same bytes cost half as much CPU time again.
/// It is a fifth of a millisecond's work.
pub const RELAY_TURN_BYTES: usize = RELAY_PIPE_BYTES;

/// Size of a relay's pipe, in bytes: the largest that Linux gives everybody
/// (/proc/sys/fs/pipe-max-size). A segment takes a page's place in it, however short, so that of segments
/// that come one by one from a long way it holds some 370 KB.
pub const RELAY_PIPE_BYTES: usize = 1 << 20;

/// Pipes of that size at once: half of what /proc/sys/fs/pipe-user-pages-soft grants a user. The rest
/// have the kernel's 64 KiB, so that readers who don't read hold half a gigabyte at most.
pub const RELAY_LARGE_PIPES: usize = 32;

/// Empty pipes kept for the next who needs one. A pair has a pipe only while something is in it.
pub const RELAY_SPARE_PIPES: usize = 8;

// ---- the peer --------------------------------------------------------------------------------------

/// A login (connect, handshake, welcome) must end within this time.
pub const LOGIN_TIME: Duration = Duration::from_secs(10);

/// First wait before a lost rendezvous is dialled again; doubled each time, with full jitter.
pub const RECONNECT_FIRST: Duration = Duration::from_millis(250);

/// Longest wait before a lost rendezvous is dialled again.
pub const RECONNECT_LONGEST: Duration = Duration::from_secs(30);

/// Times that a peer lets one rendezvous after the other send it on. Then it goes home: some name each other.
pub const REDIRECTS: u32 = 3;

/// A login that has stood for this long ends such a series.
pub const REDIRECT_REST: Duration = Duration::from_secs(60);

/// `KEY@HOST:PORT` in a message, in bytes: a peer id, a name of 253 bytes, and a port.
pub const SERVER_ADDRESS_BYTES: usize = 320;

/// After the first word that this machine's network has changed, it is looked at after this time: an
/// address that goes, one that comes, and its routes are one change, and belong to one look.
pub const NETWORK_SETTLE_TIME: Duration = Duration::from_millis(300);

/// From one look at this machine's network to the next at least: an interface that flaps, or a router
/// that advertises every few seconds, makes no storm of probes and logins.
pub const NETWORK_LOOK_INTERVAL: Duration = Duration::from_secs(5);

/// Messages of the kernel about its network that are read in one turn before other sockets get theirs.
pub const TURN_NOTICES: usize = 256;

/// A request that the rendezvous does not answer fails after this time.
pub const REQUEST_TIME: Duration = Duration::from_secs(10);

/// For this long after a punch between the main ports of two peers, the next one between them uses
/// a fresh port: NATs keep a closed connection for up to four minutes (RFC 5382 §5, REQ-5).
pub const MAIN_PORT_REST: Duration = Duration::from_secs(240);

/// Peers for which [`MAIN_PORT_REST`] is remembered; beyond it every punch uses a fresh port.
pub const MAIN_PORT_RESTS: usize = 1024;

/// Punches in progress in one peer.
pub const PUNCHES: usize = 2048;

/// Fresh holes open in one peer: one for each punch, and another for each that goes into a next round.
pub const HOLES: usize = 2 * PUNCHES;

/// Probes of one hole at most, its own included: what S may ask for.
pub const HOLE_PROBES: u8 = 8;

/// How long the probes of a login that look at our own NAT are waited for. The kernel sends SYNs at 0, 1.0, 2.0
/// and 3.1 s, so that three lost packets don't lose one; a port that says nothing would hold the look for
/// two minutes.
pub const PROBE_TIME: Duration = Duration::from_secs(5);

/// Each step of the close look at our own NAT must end within this time; a lost packet or two fit.
pub const LOOK_STEP_TIME: Duration = Duration::from_secs(5);

/// How long a NAT that hands ports out in sequence is watched, to see how many others take: with 5 a second
/// that are ten, so that chance is a third of it.
pub const SEQUENCE_WATCH_TIME: Duration = Duration::from_secs(2);

/// A dial to our own mapped endpoint must have come back within this time: a SYN, and the next one.
pub const HAIRPIN_TIME: Duration = Duration::from_secs(2);

/// Dials of such a test, of both its ends: enough to get past a NAT that answers RST to whoever is early.
pub const HAIRPIN_DIALS: u32 = 16;

/// Connections that are accepted on the hole of such a look: those of S, our own, and a stranger or two.
pub const LOOK_GUESTS: usize = 8;

/// Idle connections that a peer opens at once to see how long its NAT keeps them.
pub const IDLE_PROBES: usize = 16;

/// A connection that is to be idle must stand, and its request be out, within this time.
pub const IDLE_PROBE_OPENING_TIME: Duration = Duration::from_secs(10);

/// An answer that was to come after an idle time is waited for this much longer: the kernel of S sends it
/// again some five times in it.
pub const IDLE_PROBE_GRACE: Duration = Duration::from_secs(10);

/// A spare hole that nobody needs is closed after this time: holding it costs S and the NAT an entry.
pub const SPARE_HOLE_TIME: Duration = Duration::from_secs(60);

/// Connections accepted on a punched port which have not said whose they are.
pub const UNCLAIMED_PATHS: usize = 256;

/// An accepted connection must say whose it is within this time.
pub const UNCLAIMED_TIME: Duration = Duration::from_secs(5);

// ---- port mapping ----------------------------------------------------------------------------------

/// How long a port mapping is asked for: "The RECOMMENDED Port Mapping Lifetime is 7200 seconds"
/// (RFC 6886 §3.3). It is renewed at half of that.
pub const PORT_MAPPING_LIFETIME: Duration = Duration::from_secs(7200);

/// The same by UPnP, where nothing shows that a router has restarted: it is asked again every ten minutes.
pub const IGD_LEASE: Duration = Duration::from_secs(1200);

/// A router that refused a mapping, or knows no way to one, is asked again after this time.
pub const PORT_MAPPING_REST: Duration = Duration::from_secs(600);

/// PCP may grant for this long before NAT-PMP is asked to: a router answers within milliseconds.
pub const NAT_PMP_DELAY: Duration = Duration::from_millis(250);

/// PCP and NAT-PMP may grant for this long before UPnP is asked to, a repeated NAT-PMP request included.
pub const IGD_DELAY: Duration = Duration::from_millis(1000);

/// A request to remove a mapping is repeated after this time.
pub const PORT_UNMAPPING_RETRY: Duration = Duration::from_millis(150);

/// … and is sent this often at most.
pub const PORT_UNMAPPING_TRIES: u8 = 3;

/// A program that ends waits this long at most for its router to remove the mapping. A mapping that
/// stays ends by itself.
pub const PORT_UNMAPPING_TIME: Duration = Duration::from_millis(500);

/// An HTTP call to a router must be answered within this time.
pub const ROUTER_ANSWER_TIME: Duration = Duration::from_secs(5);

/// Longest answer of a router over HTTP, in bytes: descriptions with every service have some 10 KB.
pub const ROUTER_ANSWER_BYTES: usize = 64 * 1024;

/// Path of a URL that a router names, in bytes.
pub const URL_PATH_BYTES: usize = 512;

/// Elements and texts in a router's XML: the longest descriptions have some hundreds.
pub const XML_NODES: u32 = 4096;

/// Routers that answer one search of which the descriptions are read.
pub const IGD_ANSWERS: usize = 4;

/// Services of one router that are tried: one for each of its ways out.
pub const IGD_SERVICES: usize = 4;

// ---- one look at the NAT through any STUN server ----------------------------------------------------

/// How long the system may look up the name of a STUN server.
pub const STUN_RESOLVE_TIME: Duration = Duration::from_secs(5);

/// How long the probes that go out together may take. The kernel sends SYNs at 0, 1.0, 2.0 and 3.1 s, so
/// that three lost packets don't lose one.
pub const STUN_ANSWER_TIME: Duration = Duration::from_secs(5);

/// Addresses of a STUN server's name that are tried, one after the other: both families, twice.
pub const STUN_ADDRESSES: usize = 4;

// ---- one punch --------------------------------------------------------------------------------------

/// Synchronised rounds in one punch.
pub const ROUNDS: u8 = 3;

/// How long a round may last before the next is asked for. The kernel sends SYNs at 0, 1.0 and
/// 2.0 s, so that two lost packets don't lose the round.
pub const ROUND_TIME: Duration = Duration::from_millis(2500);

/// The same for a round in which ports or addresses are guessed: it is decided when the first SYNs have crossed. One lost
/// packet, which the kernel sends again after 1.0 s, doesn't lose it; two such rounds fit into
/// [`RELAY_HEAD_START`].
pub const BRIEF_ROUND_TIME: Duration = Duration::from_millis(1200);

/// How long a side waits that lets the other's SYN come first: it has come by then, also where the first
/// one was lost.
pub const YIELD_TIME: Duration = Duration::from_millis(1250);

/// How long a connection may take to prove where it leads. It is a round trip and a lost packet;
/// a stranger who answers is silent or wrong by then.
pub const PROOF_TIME: Duration = Duration::from_secs(3);

/// A refused dial is made again within this time, jittered: the hole is open RTT / (RTT + X) of the
/// time for a retry delay of X, and fixed delays lock both sides out of phase.
pub const RETRY_JITTER: Duration = Duration::from_millis(2);

/// Dials of one punch that may be open at once, where the descriptor limit allows: a birthday.
pub const PUNCH_SOCKETS: usize = 3072;

/// Local ports in a row that dial in one round, each to a port of its own: where a NAT takes any of several
/// addresses for each, one of them meets. More would take ports that other programs may want.
pub const PORT_ROW: u8 = 16;

/// A later wave of a large number of dials goes out so long after the one before, if it is still needed: a round
/// trip, and the proof of what the first wave has found.
pub const WAVE_PAUSE: Duration = Duration::from_millis(250);

/// Of a large number of dials, those that go out at once; the next follow after [`VOLLEY_PAUSE`]. A
/// burst of thousands would overflow the queues of a home router.
pub const VOLLEY_DIALS: usize = 64;

/// See [`VOLLEY_DIALS`].
pub const VOLLEY_PAUSE: Duration = Duration::from_millis(1);

/// Refusals of one candidate in one round after which the retries slow down: enough for a round
/// trip of 30 ms to be tried for the whole round at full speed.
pub const EAGER_RETRIES: u32 = 64;

/// Refusals of one of many dials from fresh ports after which it is given up. Each time, its NAT chooses a port
/// anew, and has forgotten the one that was refused.
pub const STRAY_RETRIES: u32 = 4;

/// Longest delay of a retry once they have slowed down.
pub const SLOW_RETRY: Duration = Duration::from_millis(50);

/// Refusals of one candidate in one round after which it is given up.
pub const RETRIES: u32 = 256;

/// A dial that found its four-tuple taken looks again after this time, if no connection came of it.
pub const TAKEN_RETRY: Duration = Duration::from_millis(250);

// ---- streams ----------------------------------------------------------------------------------------

/// Bytes read from one socket in one turn before the others get theirs.
pub const TURN_BYTES: usize = 256 * 1024;

/// Connections accepted from one listener in one turn.
pub const TURN_ACCEPTS: usize = 64;

/// Steps of handshakes in one turn, each some 50 µs of arithmetic on curves: sessions wait a millisecond for
/// them at most, however many peers come back at once.
pub const TURN_HANDSHAKE_STEPS: usize = 16;

/// Datagrams read from one socket in one turn.
pub const TURN_DATAGRAMS: usize = 64;

/// The one read buffer that all sockets of a reactor share, in bytes.
pub const SCRATCH_BYTES: usize = 64 * 1024;

/// Once this much waits to be written to one side of a stream, the other side is not read.
pub const STREAM_BACKLOG_BYTES: usize = 64 * 1024;

/// How long accepting pauses when the process is out of descriptors (EMFILE, ENFILE).
pub const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// A message in the log, in bytes: what strangers have said is longer nowhere.
pub const LOG_LINE_BYTES: usize = 4096;

/// Log lines that wait for standard error to be read, in bytes; further ones are lost, and counted.
pub const LOG_BACKLOG_BYTES: usize = 1 << 20;

/// How long a stream that has been closed may take to deliver what is queued.
pub const LINGER_TIME: Duration = Duration::from_secs(10);

/// Silence after which the kernel probes an idle connection: below the shortest timers seen in home
/// routers, though RFC 5382 asks for two hours.
pub const KEEPALIVE_IDLE: Duration = Duration::from_secs(50);

/// Time between the kernel's keepalive probes.
pub const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(10);

/// How long sent bytes may stay unacknowledged before the kernel gives the connection up
/// (TCP_USER_TIMEOUT, RFC 5482).
pub const USER_TIMEOUT: Duration = Duration::from_secs(40);

// ---- the loop, and the operator's port ------------------------------------------------------------

/// A handler of the loop that takes longer is logged: that is a tenth of what a person notices, and all
/// peers wait for it.
pub const SLOW_HANDLER: Duration = Duration::from_millis(10);

/// Time between two lines about slow handlers: a loop that is late has better things to do.
pub const SLOW_LOG_PAUSE: Duration = Duration::from_secs(1);

/// Connections to the operator's port: some browsers, each with six, and some scrapers.
pub const ADMIN_CONNECTIONS: usize = 64;

/// Longest request to the operator's port, in bytes: browsers send about one KB.
pub const ADMIN_REQUEST_BYTES: usize = 8 * 1024;

/// Header fields of such a request. Browsers send about twenty.
pub const ADMIN_HEADERS: usize = 64;

/// Such a request must be whole within this time after the connection or its first byte.
pub const ADMIN_REQUEST_TIME: Duration = Duration::from_secs(5);

/// The answer must be taken within this time.
pub const ADMIN_ANSWER_TIME: Duration = Duration::from_secs(10);

/// A connection to the operator's port is kept for this long between two requests: scrapers come once in a
/// minute or more often.
pub const ADMIN_IDLE_TIME: Duration = Duration::from_secs(120);

/// How long such a connection is still read after its last answer: a close with bytes unread would be an RST,
/// which may overtake the answer.
pub const ADMIN_LINGER_TIME: Duration = Duration::from_secs(1);

/// Requests to the operator's port that are answered before peers have their turn again: each takes some
/// tenths of a millisecond.
pub const ADMIN_TURN_REQUESTS: usize = 4;
