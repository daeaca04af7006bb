//! Strangers at the door of the rendezvous.

use gimlet::identity::{PeerId, PublicKey, SecretKey};
use gimlet::limits;
use gimlet::wire::message::{
    Login, Message, Nat, Port, Refused, Release, Role, RoundResult, Welcome,
};
use gimlet::wire::noise::{ClientHandshake, VERSION};
use gimlet::wire::refusal::{ClosingCode, RefusalCode};

use crate::raw::{End, Leave, Raw, RawPeer, greet, login, main_port, read_refusal};
use crate::support::{World, alone, random};

/// What the rendezvous has counted as wrong, at the sockets and in the machine.
fn wrongs(world: &mut World) -> u64 {
    let rendezvous = world.rendezvous();
    let counters = *rendezvous.counters();
    let stats = rendezvous.machine().stats();
    counters.handshakes_failed + counters.bad_frames + counters.slow + stats.protocol_closes
}

/// Has an attack done to a world, which must withstand it. Says how many wrongs were counted.
fn withstands(attack: impl FnOnce(&mut World)) -> u64 {
    let _alone = alone();
    let mut world = World::new();
    world.healthy_pair_connects();
    world.until("they are gone", World::is_deserted);
    let (before, counted) = (world.census(), wrongs(&mut world));
    attack(&mut world);
    world.healthy_pair_connects();
    world.comes_back_to(before);
    wrongs(&mut world) - counted
}

/// A valid hello.
fn hello() -> Vec<u8> {
    let mut hello = Vec::new();
    ClientHandshake::start(&SecretKey::generate(), &mut hello);
    hello
}

/// A frame with this body.
fn frame(body: &[u8]) -> Vec<u8> {
    let mut out = (body.len() as u16).to_be_bytes().to_vec();
    out.extend_from_slice(body);
    out
}

fn encoded(login: &Login) -> Vec<u8> {
    let mut out = Vec::new();
    login.encode(&mut out);
    out
}

/// Greets, and sends a last handshake frame with this payload.
fn finish_with(world: &mut World, raw: &mut Raw, payload: &[u8]) {
    let (handshake, reply) = greet(world, raw, &SecretKey::generate());
    let mut finish = Vec::new();
    handshake.finish(&reply, None, payload, &mut finish).unwrap();
    assert_eq!(raw.send(&finish), finish.len());
}

#[test]
fn random_bytes_are_counted_and_forgotten() {
    const RUNS: u64 = 300;
    let counted = withstands(|world| {
        let to = main_port(world);
        for seed in 0..RUNS {
            let mut random = random(seed);
            let mut raw = Raw::connect(to);
            let mut bytes: Vec<u8> = (0..random.usize(1..4000)).map(|_| random.u8(..)).collect();
            match seed % 4 {
                // As they are; or as a frame; or as the rest of a frame that begins well.
                0 => {}
                1 => bytes = frame(&bytes),
                2 => bytes.splice(..0, hello()[..10].iter().copied()).for_each(drop),
                _ => bytes.splice(..0, hello()).for_each(drop),
            }
            for piece in bytes.chunks(random.usize(1..2000)) {
                raw.send(piece);
                world.turn();
            }
            raw.look();
            raw.leave(Leave::ALL[seed as usize % 3]);
        }
    });
    assert_eq!(counted, RUNS);
}

#[test]
fn what_is_no_handshake_is_refused_in_words() {
    const HTTP: &[u8] = b"GET / HTTP/1.1\r\nHost: example.org\r\n\r\n";
    let too_long = (limits::HANDSHAKE_FRAME_BYTES as u16 + 1).to_be_bytes();
    let strange: [&[u8]; 6] =
        [HTTP, &[0, 0], &[0xff, 0xff], &too_long, &frame(b"x"), &frame(b"\x01gimlot\x01")];
    let counted = withstands(|world| {
        for bytes in strange {
            let mut raw = Raw::connect(main_port(world));
            raw.send(bytes);
            let (code, text) = raw.refused(world);
            assert_eq!(code, RefusalCode::Protocol, "{bytes:?}");
            assert!(text.contains("Gimlet"), "{bytes:?}: {text}");
        }
    });
    assert_eq!(counted, strange.len() as u64);
}

#[test]
fn a_hello_of_another_version_is_told_both_versions() {
    let counted = withstands(|world| {
        for (version, rest) in [(VERSION + 1, 32), (0, 32), (255, 5000), (VERSION + 1, 0)] {
            let mut raw = Raw::connect(main_port(world));
            let mut body = b"\x01gimlet".to_vec();
            body.push(version);
            body.extend(std::iter::repeat_n(7, rest));
            raw.send(&frame(&body));
            let (code, text) = raw.refused(world);
            assert_eq!(code, RefusalCode::Version);
            for wanted in [format!("version {VERSION}"), version.to_string()] {
                assert!(text.contains(&wanted), "{text}");
            }
        }
    });
    assert_eq!(counted, 4);
}

#[test]
fn a_handshake_that_ends_at_any_byte_is_forgotten() {
    let finish_length = {
        let (mut hello, mut reply, mut finish) = (Vec::new(), Vec::new(), Vec::new());
        let client = ClientHandshake::start(&SecretKey::generate(), &mut hello);
        let server = SecretKey::generate();
        gimlet::wire::noise::ServerHandshake::reply(&hello[2..], &server, &mut reply).unwrap();
        client.finish(&reply[2..], None, &encoded(&login()), &mut finish).unwrap();
        finish.len()
    };
    let hello_length = hello().len();
    let counted = withstands(|world| {
        let mut half_closed = Vec::new();
        for end in 0..hello_length {
            let mut raw = Raw::connect(main_port(world));
            raw.send(&hello()[..end]);
            world.turn();
            half_closed.extend(raw.leave(Leave::ALL[end % 3]));
        }
        for end in 0..finish_length {
            let mut raw = Raw::connect(main_port(world));
            let (handshake, reply) = greet(world, &mut raw, &SecretKey::generate());
            let mut finish = Vec::new();
            handshake.finish(&reply, None, &encoded(&login()), &mut finish).unwrap();
            raw.send(&finish[..end]);
            world.turn();
            half_closed.extend(raw.leave(Leave::ALL[end % 3]));
        }
        // Those who only stop to speak are closed, too, and not kept until they close.
        let to_come: Vec<_> = half_closed.into_iter().map(Raw::of).collect();
        for mut raw in to_come {
            raw.ended(world);
        }
    });
    assert_eq!(counted, (hello_length + finish_length) as u64);
}

#[test]
fn every_altered_byte_of_a_handshake_is_refused() {
    withstands(|world| {
        let length = hello().len();
        for at in 2..length {
            let mut raw = Raw::connect(main_port(world));
            let mut bytes = hello();
            bytes[at] ^= 0x40;
            raw.send(&bytes);
            let body = raw.frame(world);
            // Another ephemeral key is as good as the first: it shows in the next frame alone.
            if at < 10 {
                read_refusal(&body);
                assert_eq!(raw.ended(world), End::Closed);
            }
        }
        for at in (2..106).step_by(3) {
            let mut raw = Raw::connect(main_port(world));
            let (handshake, reply) = greet(world, &mut raw, &SecretKey::generate());
            let mut finish = Vec::new();
            handshake.finish(&reply, None, &encoded(&login()), &mut finish).unwrap();
            finish[at] ^= 0x40;
            raw.send(&finish);
            let (code, _) = raw.refused(world);
            assert_eq!(code, RefusalCode::Protocol);
        }
        assert_eq!(world.rendezvous().machine().sessions(), 0);
    });
}

#[test]
fn a_frame_just_within_the_bound_is_waited_for_and_not_kept_after_the_end() {
    withstands(|world| {
        let before = world.census();
        let mut raw = Raw::connect(main_port(world));
        raw.send(&(limits::HANDSHAKE_FRAME_BYTES as u16).to_be_bytes());
        raw.send(&vec![1; limits::HANDSHAKE_FRAME_BYTES - 1]);
        world.healthy_pair_connects();
        raw.look();
        assert_eq!((raw.end, raw.received.len()), (None, 0));
        raw.leave(Leave::Close);
        world.until("it is gone", |world| world.census().sockets == before.sockets);
    });
}

#[test]
fn silent_connections_count_and_do_not_keep_others_out() {
    const SILENT: usize = 500;
    let counted = withstands(|world| {
        let before = world.rendezvous().counters().accepted;
        let silent: Vec<_> = (0..SILENT).map(|_| Raw::connect(main_port(world))).collect();
        world.until("all are accepted", |world| {
            world.rendezvous().counters().accepted == before + SILENT as u64
        });
        world.healthy_pair_connects();
        drop(silent);
    });
    assert_eq!(counted, SILENT as u64, "whoever did not log in is counted");
}

#[test]
fn a_login_that_cannot_be_read_is_refused_in_words() {
    let sound = encoded(&login());
    let mut payloads: Vec<_> = (0..sound.len()).map(|end| sound[..end].to_vec()).collect();
    let mut random = random(1);
    payloads
        .extend((0..100).map(|_| (0..random.usize(..300)).map(|_| 0xf0 | random.u8(..)).collect()));
    let counted = withstands(|world| {
        for payload in &payloads {
            let mut raw = Raw::connect(main_port(world));
            finish_with(world, &mut raw, payload);
            let (code, text) = raw.refused(world);
            assert_eq!(code, RefusalCode::Protocol, "{payload:?}");
            assert!(text.contains("field '"), "{payload:?}: {text}");
        }
        assert_eq!(world.rendezvous().machine().sessions(), 0);
    });
    assert_eq!(counted, payloads.len() as u64);
}

#[test]
fn a_login_byte_by_byte_is_granted() {
    withstands(|world| {
        let mut raw = Raw::connect(main_port(world));
        let mut out = Vec::new();
        let handshake = ClientHandshake::start(&SecretKey::generate(), &mut out);
        for byte in out.drain(..) {
            raw.send(&[byte]);
            world.turn();
        }
        let reply = raw.frame(world);
        handshake.finish(&reply, None, &encoded(&login()), &mut out).unwrap();
        for byte in out {
            raw.send(&[byte]);
            world.turn();
        }
        raw.frame(world);
        assert_eq!(world.rendezvous().machine().sessions(), 1);
    });
}

#[test]
fn frames_that_make_no_sense_end_the_session_and_it_is_told_why() {
    type Spoil = fn(&mut RawPeer) -> Vec<u8>;
    let spoilt: [(Spoil, &str); 8] = [
        (|_| frame(&[7; 40]), "right keys"),
        (|_| frame(&[7; 3]), "right keys"),
        (|_| vec![0, 0], "Gimlet"),
        (|_| (limits::FRAME_BYTES as u16 + 1).to_be_bytes().to_vec(), "Gimlet"),
        // Sealed well, and not a message.
        (|peer| peer.seal_bytes(|_| {}), "'type'"),
        (|peer| peer.seal_bytes(|out| out.extend([0x40, 1, 2, 3])), "'value'"),
        (|peer| peer.seal_bytes(|out| out.extend([0x20, 0xff, 0xff])), "'peers'"),
        // The same twice.
        (
            |peer| {
                let ping = peer.seal(&Message::Ping(1));
                [ping.clone(), ping].concat()
            },
            "right keys",
        ),
    ];
    let counted = withstands(|world| {
        for (spoil, wanted) in spoilt {
            let mut peer = RawPeer::log_in(world, &login());
            let bytes = spoil(&mut peer);
            peer.raw.send(&bytes);
            let (code, text) = peer.closed(world);
            assert_eq!(code, ClosingCode::Protocol);
            assert!(text.contains(wanted), "{text}");
            assert_eq!(world.rendezvous().machine().sessions(), 0);
        }
    });
    assert_eq!(counted, spoilt.len() as u64);
}

#[test]
fn random_frames_after_a_login_are_counted_and_forgotten() {
    const RUNS: u64 = 60;
    let counted = withstands(|world| {
        for seed in 0..RUNS {
            let mut random = random(seed);
            let mut peer = RawPeer::log_in(world, &login());
            let bytes: Vec<u8> = (0..random.usize(40..2000)).map(|_| random.u8(..)).collect();
            let bytes = if seed % 2 == 0 {
                frame(&bytes)
            } else {
                // A type that only S may say, with a body that it would not say.
                peer.seal_bytes(|out| out.extend([0x12].iter().chain(&bytes[..30])))
            };
            peer.raw.send(&bytes);
            peer.raw.ended(world);
        }
        assert_eq!(world.rendezvous().machine().sessions(), 0);
    });
    assert_eq!(counted, RUNS);
}

#[test]
fn a_message_that_only_a_rendezvous_may_send_ends_the_session() {
    let peer = PeerId::from_bytes([1; 15]);
    let (code, text) = (RefusalCode::Busy, String::new());
    let forged = [
        Message::Welcome(Welcome {
            id: peer,
            observed: "127.0.0.1:1".parse().unwrap(),
            token: [1; 16],
            holes: Vec::new(),
            text: String::new(),
        }),
        Message::Refused(Refused { request: 1, code, text: text.clone() }),
        Message::Closing { code: ClosingCode::Busy, text },
        Message::Prepare { tag: 1, round: 1, probes: 1 },
        Message::Release(Box::new(Release {
            introduction: 1,
            request: 1,
            round: 1,
            role: Role::Controller,
            delay: 0,
            key: PublicKey::from_bytes([1; 32]),
            nonce: [1; 16],
            token: [1; 16],
            from: Port::Main,
            nat: Nat::default(),
            candidates: Vec::new(),
            sockets: 1,
            rows: [1; 2],
            spray: None,
            relay: None,
            hopeful: true,
            brief: false,
            yields: false,
        })),
        Message::Cancelled { introduction: 1, code },
        Message::Presence { peer, online: true, room: String::new() },
    ];
    let counted = withstands(|world| {
        for message in &forged {
            let mut peer = RawPeer::log_in(world, &login());
            peer.send(message);
            let (code, text) = peer.closed(world);
            assert_eq!(code, ClosingCode::Protocol, "{message:?}");
            assert!(text.contains("only a rendezvous"), "{text}");
        }
    });
    assert_eq!(counted, forged.len() as u64);
}

#[test]
fn messages_of_unknown_types_are_borne_up_to_a_bound() {
    let counted = withstands(|world| {
        let mut peer = RawPeer::log_in(world, &login());
        let mut flood = Vec::new();
        for _ in 0..limits::UNKNOWN_MESSAGES {
            flood.extend(peer.seal_bytes(|out| out.extend([0xee, 1, 2, 3])));
        }
        assert_eq!(peer.raw.send(&flood), flood.len());
        peer.send(&Message::Ping(7));
        assert_eq!(peer.message(world), Message::Pong(7), "what a newer version says is skipped");
        let one_more = peer.seal_bytes(|out| out.push(0xee));
        peer.raw.send(&one_more);
        let (code, text) = peer.closed(world);
        assert_eq!(code, ClosingCode::Protocol);
        assert!(text.contains("unknown types"), "{text}");
    });
    assert_eq!(counted, 1);
}

#[test]
fn outcomes_and_requests_about_nothing_change_nothing() {
    withstands(|world| {
        let mut peer = RawPeer::log_in(world, &login());
        let stranger = PeerId::from_bytes([3; 15]);
        let me = peer.id();
        for introduction in [0, 1, 2, u64::MAX] {
            for result in [RoundResult::Connected, RoundResult::Failed, RoundResult::GivenUp] {
                peer.send(&Message::Outcome { introduction, round: 1, result });
            }
        }
        let asked = [
            (0, stranger, Port::Main, RefusalCode::Protocol),
            (1, stranger, Port::Main, RefusalCode::NotAllowed),
            (2, me, Port::Main, RefusalCode::Yourself),
            (3, stranger, Port::Hole(0), RefusalCode::Protocol),
            (4, stranger, Port::Hole(1 << 63), RefusalCode::Protocol),
        ];
        for (request, whom, from, wanted) in asked {
            peer.send(&Message::Introduce { request, peer: whom, from });
            let refused = loop {
                match peer.message(world) {
                    Message::Refused(refused) => break refused,
                    // Who asks for another round of nothing is told that it is over.
                    Message::Cancelled { code, .. } => assert_eq!(code, RefusalCode::PeerGone),
                    other => panic!("{other:?}"),
                }
            };
            assert_eq!((refused.request, refused.code), (request, wanted));
        }
        assert_eq!(world.rendezvous().machine().introductions(), 0);
        assert!(world.rendezvous().machine().stats().stray_outcomes >= 12);
    });
}

#[test]
fn introductions_of_one_session_are_bounded_and_go_with_it() {
    withstands(|world| {
        let mut asker = RawPeer::log_in(world, &login());
        let asked = RawPeer::log_in(world, &login());
        let most = limits::INTRODUCTIONS_PER_SESSION as u32;
        let mut requests = Vec::new();
        for request in 1..=most + 10 {
            let message = Message::Introduce { request, peer: asked.id(), from: Port::Main };
            requests.extend(asker.seal(&message));
        }
        let mut at = 0;
        let mut refused = 0;
        world.until("what is too much is refused", |_| {
            at += asker.raw.send(&requests[at..]);
            asker.raw.look();
            while let Some(mut body) = asker.raw.take_frame() {
                match Message::decode(asker.channel.open(&mut body).unwrap()).unwrap() {
                    Message::Refused(why) => {
                        assert_eq!(why.code, RefusalCode::Busy);
                        assert!(why.request > most, "{why:?}");
                        refused += 1;
                    }
                    Message::Prepare { .. } | Message::Release(_) => {}
                    other => panic!("{other:?}"),
                }
            }
            refused == 10
        });
        assert_eq!(world.rendezvous().machine().introductions(), most as usize);
        drop(asked);
        world.until("they go with a side", |world| {
            world.rendezvous().machine().introductions() == 0
        });
    });
}

#[test]
fn who_does_not_read_is_closed_once_too_much_waits() {
    let counted = withstands(|world| {
        let raw = Raw::connect_narrow(main_port(world));
        let mut peer = RawPeer::log_in_over(world, raw, &login());
        let mut pings = Vec::new();
        let mut at = 0;
        world.until("it is closed", |world| {
            // Many times what kernels hold, if it must be.
            if at == pings.len() {
                pings.clear();
                at = 0;
                for value in 0..2000 {
                    pings.extend(peer.seal(&Message::Ping(value)));
                }
            }
            at += peer.raw.send(&pings[at..]);
            world.rendezvous().machine().sessions() == 0
        });
        assert_eq!(world.rendezvous().counters().slow, 1);
    });
    assert_eq!(counted, 1);
}

#[test]
fn a_session_ends_however_its_peer_leaves_and_whenever() {
    withstands(|world| {
        for how in Leave::ALL {
            let mut peers: Vec<_> = (0..4).map(|_| RawPeer::log_in(world, &login())).collect();
            assert_eq!(world.rendezvous().machine().sessions(), 4);
            // One says half a frame first, one has just said something, one has words to read.
            let half = peers[1].seal(&Message::Ping(1));
            peers[1].raw.send(&half[..5]);
            peers[2].send(&Message::Ping(1));
            peers[3].send(&Message::Ping(1));
            world.turn();
            let mut gone: Vec<_> =
                peers.into_iter().filter_map(|peer| peer.raw.leave(how)).map(Raw::of).collect();
            world.until("the sessions end", |world| world.rendezvous().machine().sessions() == 0);
            for raw in &mut gone {
                raw.ended(world);
            }
        }
    });
}

#[test]
fn a_thousand_logins_that_come_and_go_leave_nothing() {
    withstands(|world| {
        for round in 0..50 {
            let mut raws: Vec<_> = (0..20).map(|_| Raw::connect(main_port(world))).collect();
            for raw in &mut raws {
                raw.send(&hello());
            }
            for (index, mut raw) in raws.into_iter().enumerate() {
                if index % 2 == 0 {
                    raw.frame(world);
                }
                raw.leave(Leave::ALL[(round + index) % 3]);
            }
        }
    });
}
