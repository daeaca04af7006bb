//! What bytes cost: frames, sealing, STUN, handshakes.

use std::hint::black_box;

use divan::Bencher;
use divan::counter::BytesCount;

use gimlet::identity::SecretKey;
use gimlet::wire::frame::{FrameReader, write_frame};
use gimlet::wire::message::{Message, Port};
use gimlet::wire::noise::{
    self, Channel, ClientHandshake, PathContext, PathHandshake, ServerHandshake,
};
use gimlet::wire::stun::{self, Probe};

fn main() {
    divan::main();
}

/// Longest frame that is asked for here.
const LIMIT: usize = u16::MAX as usize;

/// Bodies of a small message, of a packet, and of the largest record.
const BODIES: [usize; 3] = [64, 1400, 16 * 1024];

/// Two ends of an established main connection.
fn channels() -> (Channel, Channel) {
    let (client, server) = (SecretKey::generate(), SecretKey::generate());
    let (channel, other, _) = log_in(&client, &server);
    (channel, other)
}

/// A whole login: both sides' handshake.
fn log_in(client: &SecretKey, server: &SecretKey) -> (Channel, Channel, Vec<u8>) {
    let (mut hello, mut reply, mut finish) = (Vec::new(), Vec::new(), Vec::new());
    let at_client = ClientHandshake::start(client, &mut hello);
    let at_server = ServerHandshake::reply(&hello[2..], server, &mut reply).expect("a hello");
    let (channel, _) = at_client.finish(&reply[2..], None, &[0; 64], &mut finish).expect("a reply");
    let (other, _, payload) = at_server.finish(&finish[2..]).expect("the last frame");
    (channel, other, payload)
}

#[divan::bench(args = BODIES)]
fn frame_encode(bencher: Bencher, length: usize) {
    let body = vec![7; length];
    let mut out = Vec::new();
    bencher.counter(BytesCount::new(length)).bench_local(|| {
        out.clear();
        write_frame(&mut out, |out| out.extend_from_slice(&body));
        black_box(&out);
    });
}

#[divan::bench(args = BODIES)]
fn frame_decode(bencher: Bencher, length: usize) {
    let mut bytes = Vec::new();
    write_frame(&mut bytes, |out| out.resize(out.len() + length, 7));
    let mut reader = FrameReader::new();
    bencher.counter(BytesCount::new(length)).bench_local(|| {
        let (used, body) = reader.next(&mut bytes, LIMIT).expect("a frame");
        black_box((used, body.map(|body| body.len())));
    });
}

/// The beginning of a frame has come before: it is kept, and the rest appended.
#[divan::bench(args = BODIES)]
fn frame_decode_in_two_reads(bencher: Bencher, length: usize) {
    let mut bytes = Vec::new();
    write_frame(&mut bytes, |out| out.resize(out.len() + length, 7));
    let mut reader = FrameReader::new();
    bencher.counter(BytesCount::new(length)).bench_local(|| {
        let (first, rest) = bytes.split_at_mut(length / 2);
        assert!(reader.next(first, LIMIT).expect("half a frame").1.is_none());
        black_box(reader.next(rest, LIMIT).expect("the rest").0);
    });
}

#[divan::bench(args = BODIES)]
fn seal(bencher: Bencher, length: usize) {
    let (mut channel, _) = channels();
    let body = vec![7; length];
    let mut out = Vec::new();
    bencher.counter(BytesCount::new(length)).bench_local(|| {
        out.clear();
        channel.seal(&mut out, |out| out.extend_from_slice(&body));
        black_box(&out);
    });
}

/// Sealing included, since each frame opens once.
#[divan::bench(args = BODIES)]
fn seal_and_open(bencher: Bencher, length: usize) {
    let (mut channel, mut other) = channels();
    let body = vec![7; length];
    let mut out = Vec::new();
    bencher.counter(BytesCount::new(length)).bench_local(|| {
        out.clear();
        channel.seal(&mut out, |out| out.extend_from_slice(&body));
        black_box(other.open(&mut out[2..]).expect("sealed by the other side").len());
    });
}

#[divan::bench]
fn message_round_trip(bencher: Bencher) {
    let peer = SecretKey::generate().public().peer_id();
    let message = Message::Introduce { request: 1, peer, from: Port::Main };
    let mut out = Vec::new();
    bencher.bench_local(|| {
        out.clear();
        message.encode(&mut out);
        black_box(Message::decode(&out).expect("a message"));
    });
}

#[divan::bench]
fn stun_request_decode(bencher: Bencher) {
    let transaction = [3; 12];
    let probe = Probe { token: [1; 16], tag: 2, round: 1, local_port: 4000 };
    let mut request = Vec::new();
    stun::binding_request(&mut request, &transaction, Some(&probe));
    bencher.bench_local(|| {
        black_box(stun::decode(black_box(&request)).expect("a request"));
    });
}

#[divan::bench]
fn stun_answer_encode(bencher: Bencher) {
    let transaction = [3; 12];
    let mapped = "203.0.113.1:1000".parse().expect("an address");
    let other = "198.51.100.1:8001".parse().ok();
    let mut out = Vec::new();
    bencher.bench_local(|| {
        out.clear();
        stun::binding_success(&mut out, &transaction, mapped, other, None);
        black_box(&out);
    });
}

/// What S does for a login.
#[divan::bench]
fn handshake_server(bencher: Bencher) {
    let (client, server) = (SecretKey::generate(), SecretKey::generate());
    bencher
        .with_inputs(|| {
            let mut hello = Vec::new();
            let state = ClientHandshake::start(&client, &mut hello);
            (state, hello)
        })
        .bench_local_values(|(state, hello)| {
            let mut reply = Vec::new();
            black_box(ServerHandshake::reply(&hello[2..], &server, &mut reply).is_ok());
            state
        });
}

/// Both sides of a login.
#[divan::bench]
fn handshake_main(bencher: Bencher) {
    let (client, server) = (SecretKey::generate(), SecretKey::generate());
    bencher.bench_local(|| black_box(log_in(&client, &server).2.len()));
}

/// Both sides of a direct connection's proof.
#[divan::bench]
fn handshake_path(bencher: Bencher) {
    let (controller, controlled) = (SecretKey::generate(), SecretKey::generate());
    let context = |remote| PathContext { introduction: 1, token: [1; 16], nonce: [2; 16], remote };
    let at_controller = context(*controlled.public());
    let at_controlled = context(*controller.public());
    // Length, kind, introduction and token come before the handshake in an offer.
    const OFFER: usize = 2 + 1 + 8 + 16;
    bencher.bench_local(|| {
        let (mut offer, mut answer) = (Vec::new(), Vec::new());
        let proof = PathHandshake::offer(&controller, &at_controller, &[0; 32], &mut offer);
        let answered = noise::answer(&controlled, &at_controlled, &offer[OFFER..], &mut answer);
        black_box(answered.expect("an offer").1.len());
        black_box(proof.finish(&answer[3..]).is_ok());
    });
}
