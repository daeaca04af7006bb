//! Every message and record there and back, and the handshakes as bytes.

use std::net::{IpAddr, SocketAddr};

use proptest::prelude::*;
use proptest::sample::select;

use super::message::*;
use super::noise::{self, Channel, ClientHandshake, NoiseError, PathContext, PathHandshake};
use super::record::{Opening, Purpose, Record};
use super::refusal::{ClosingCode, RefusalCode};
use crate::identity::{PeerId, PublicKey, SecretKey};
use crate::limits;
use crate::wire::frame::FrameReader;

fn id() -> impl Strategy<Value = PeerId> {
    any::<[u8; 15]>().prop_map(PeerId::from_bytes)
}

fn ids(limit: usize) -> impl Strategy<Value = Vec<PeerId>> {
    prop_oneof![prop::collection::vec(id(), 0..5), prop::collection::vec(id(), limit)]
}

fn address() -> impl Strategy<Value = SocketAddr> {
    any::<(IpAddr, u16)>().prop_map(|(ip, port)| SocketAddr::new(ip, port))
}

fn text(limit: usize) -> impl Strategy<Value = String> {
    prop::collection::vec(prop::char::range(' ', '~'), 0..limit).prop_map(String::from_iter)
}

fn nat() -> impl Strategy<Value = Nat> {
    let mapping = prop::sample::select(vec![
        Mapping::Unknown,
        Mapping::None,
        Mapping::EndpointIndependent,
        Mapping::AddressDependent,
        Mapping::AddressAndPortDependent,
    ]);
    let allocation = prop_oneof![
        Just(Allocation::Unknown),
        Just(Allocation::Preserving),
        any::<(i16, u16)>().prop_map(|(delta, busy)| Allocation::Sequential { delta, busy }),
        Just(Allocation::Random),
        (any::<u16>(), any::<u16>())
            .prop_map(|(a, b)| Allocation::Block { first: a.min(b), last: a.max(b) }),
    ];
    let pooling = select(vec![Pooling::Unknown, Pooling::Paired, Pooling::Arbitrary]);
    let filtering = select(vec![
        Filtering::Unknown,
        Filtering::EndpointIndependent,
        Filtering::AddressDependent,
        Filtering::AddressAndPortDependent,
    ]);
    let refusal = select(vec![Refusal::Unknown, Refusal::Silence, Refusal::Rst, Refusal::Icmp]);
    let hairpinning =
        select(vec![Hairpinning::Unknown, Hairpinning::Supported, Hairpinning::Unsupported]);
    let parts = (mapping, allocation, pooling, filtering, refusal, hairpinning);
    parts.prop_map(|(mapping, allocation, pooling, filtering, refusal, hairpinning)| Nat {
        mapping,
        allocation,
        pooling,
        filtering,
        refusal,
        hairpinning,
    })
}

fn dial_back_end() -> impl Strategy<Value = DialBackEnd> {
    select(vec![
        DialBackEnd::NotMade,
        DialBackEnd::Connected,
        DialBackEnd::Rst,
        DialBackEnd::Icmp,
        DialBackEnd::Silence,
    ])
}

fn port() -> impl Strategy<Value = Port> {
    prop_oneof![Just(Port::Main), any::<u64>().prop_map(Port::Hole)]
}

fn candidate() -> impl Strategy<Value = Candidate> {
    let kinds = [
        CandidateKind::Host,
        CandidateKind::ServerReflexive,
        CandidateKind::PortMapped,
        CandidateKind::Predicted,
    ];
    (prop::sample::select(kinds.to_vec()), address())
        .prop_map(|(kind, address)| Candidate { kind, address })
}

fn release() -> impl Strategy<Value = Message> {
    let who = (any::<u64>(), any::<u32>(), any::<u8>(), any::<bool>(), any::<u32>());
    let keys = (any::<[u8; 32]>(), any::<[u8; 16]>(), any::<[u8; 16]>(), port(), nat());
    let spray = (any::<IpAddr>(), any::<u16>(), any::<u16>(), any::<u16>())
        .prop_map(|(ip, first, last, dials)| Spray { ip, first, last, dials });
    let candidates = prop::collection::vec(candidate(), 0..=limits::CANDIDATES);
    let relay = (prop::option::of(address()), any::<[bool; 3]>());
    let sockets = (any::<u16>(), any::<[u8; 2]>());
    let aim = (candidates, sockets, prop::option::of(spray), relay);
    (who, keys, aim).prop_map(|(who, keys, aim)| {
        Message::Release(Box::new(Release {
            introduction: who.0,
            request: who.1,
            round: who.2,
            role: if who.3 { Role::Controller } else { Role::Controlled },
            delay: who.4,
            key: PublicKey::from_bytes(keys.0),
            nonce: keys.1,
            token: keys.2,
            from: keys.3,
            nat: keys.4,
            candidates: aim.0,
            sockets: aim.1.0,
            rows: aim.1.1,
            spray: aim.2,
            relay: aim.3.0,
            hopeful: aim.3.1[0],
            brief: aim.3.1[1],
            yields: aim.3.1[2],
        }))
    })
}

fn allow() -> impl Strategy<Value = Allow> {
    (any::<bool>(), ids(limits::ALLOWED_PEERS)).prop_map(|(anyone, peers)| Allow { anyone, peers })
}

fn hosts() -> impl Strategy<Value = Vec<IpAddr>> {
    prop::collection::vec(any::<IpAddr>(), 0..=limits::HOST_ADDRESSES)
}

fn mapped() -> impl Strategy<Value = Vec<SocketAddr>> {
    prop::collection::vec(address(), 0..=limits::MAPPED_ENDPOINTS)
}

fn pool() -> impl Strategy<Value = Vec<IpAddr>> {
    prop::collection::vec(any::<IpAddr>(), 0..=limits::POOL_ADDRESSES)
}

fn welcome() -> impl Strategy<Value = Message> {
    let holes = prop::collection::vec(address(), 0..=limits::HOLE_ENDPOINTS);
    (id(), address(), any::<[u8; 16]>(), holes, text(limits::TEXT_BYTES)).prop_map(
        |(id, observed, token, holes, text)| {
            Message::Welcome(Welcome { id, observed, token, holes, text })
        },
    )
}

fn result() -> impl Strategy<Value = RoundResult> {
    let results =
        [RoundResult::Connected, RoundResult::Relayed, RoundResult::Failed, RoundResult::GivenUp];
    prop::sample::select(results.to_vec())
}

fn message() -> impl Strategy<Value = Message> {
    let code = || any::<u8>().prop_map(RefusalCode::from_byte);
    let room = || text(limits::ROOM_NAME_BYTES);
    prop_oneof![
        welcome(),
        (any::<u32>(), code(), text(limits::TEXT_BYTES)).prop_map(|(request, code, text)| {
            Message::Refused(Refused { request, code, text })
        }),
        (any::<u8>(), text(limits::TEXT_BYTES))
            .prop_map(|(code, text)| Message::Closing { code: ClosingCode::from_byte(code), text }),
        (any::<u32>(), text(limits::SERVER_ADDRESS_BYTES))
            .prop_map(|(spread, to)| Message::Draining { spread, to }),
        (any::<u32>(), id(), port()).prop_map(|(request, peer, from)| Message::Introduce {
            request,
            peer,
            from
        }),
        any::<(u64, u8, u8)>().prop_map(|(tag, round, probes)| Message::Prepare {
            tag,
            round,
            probes
        }),
        release(),
        (any::<u64>(), any::<u8>(), result()).prop_map(|(introduction, round, result)| {
            Message::Outcome { introduction, round, result }
        }),
        (any::<u64>(), code())
            .prop_map(|(introduction, code)| Message::Cancelled { introduction, code }),
        any::<u64>().prop_map(|introduction| Message::Awaited { introduction }),
        ids(limits::WATCHED_PEERS).prop_map(|peers| Message::Watch { peers }),
        room().prop_map(|room| Message::Join { room }),
        (id(), any::<bool>(), room()).prop_map(|(peer, online, room)| Message::Presence {
            peer,
            online,
            room
        }),
        allow().prop_map(Message::Allow),
        (nat(), hosts(), mapped(), pool()).prop_map(|(nat, hosts, mapped, pool)| {
            Message::Update { nat, hosts, mapped, pool }
        }),
        any::<u64>().prop_map(|tag| Message::DialBack { tag }),
        (any::<u64>(), dial_back_end(), dial_back_end()).prop_map(
            |(tag, same_address, other_address)| Message::DialedBack {
                tag,
                same_address,
                other_address
            }
        ),
        any::<u64>().prop_map(Message::Ping),
        any::<u64>().prop_map(Message::Pong),
    ]
}

fn bytes_of(message: &Message) -> Vec<u8> {
    let mut bytes = Vec::new();
    message.encode(&mut bytes);
    bytes
}

proptest! {
    #[test]
    fn every_message_comes_back_and_may_have_grown(message in message(), more in any::<[u8; 3]>()) {
        let mut bytes = bytes_of(&message);
        prop_assert!(bytes.len() <= limits::RECORD_PAYLOAD_BYTES);
        prop_assert_eq!(Message::decode(&bytes), Ok(message.clone()));
        // A release without its last field is an older one; what follows the rest is ignored.
        bytes.extend_from_slice(&more);
        prop_assert_eq!(Message::decode(&bytes), Ok(message));
    }

    #[test]
    fn a_message_that_ends_early_names_its_field(message in message(), cut in any::<prop::sample::Index>()) {
        let bytes = bytes_of(&message);
        let cut = cut.index(bytes.len());
        prop_assert!(Message::decode(&bytes[..cut]).is_err());
    }

    #[test]
    fn a_login_comes_back(
        login in (any::<bool>(), any::<[u8; 16]>(), any::<u16>(), hosts(), allow(), text(200), nat())
    ) {
        let (reachable, nonce, local_port, hosts, allow, agent, nat) = login;
        let login = Login { reachable, nonce, local_port, hosts, allow, agent, nat };
        let mut bytes = Vec::new();
        login.encode(&mut bytes);
        prop_assert!(bytes.len() < limits::HANDSHAKE_FRAME_BYTES);
        prop_assert_eq!(Login::decode(&bytes), Ok(login));
    }

    #[test]
    fn every_record_comes_back(data in prop::collection::vec(any::<u8>(), 0..300), value: u64, code: u8, text in text(100)) {
        let code = RefusalCode::from_byte(code);
        for record in [
            Record::Data(&data),
            Record::Fin,
            Record::Opened,
            Record::Refused { code, text },
            Record::Confirm,
            Record::Ping(value),
            Record::Pong(value),
        ] {
            let mut bytes = Vec::new();
            record.encode(&mut bytes);
            prop_assert_eq!(Record::decode(&bytes), Ok(record));
        }
    }

    #[test]
    fn an_opening_comes_back(early in prop::collection::vec(any::<u8>(), 0..300), service in text(60)) {
        for purpose in [Purpose::Ping, Purpose::Stream(service)] {
            let opening = Opening { purpose, early: early.clone() };
            let mut bytes = Vec::new();
            opening.encode(&mut bytes);
            prop_assert_eq!(Opening::decode(&bytes), Ok(opening));
        }
    }

    #[test]
    fn random_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
        let _ = (Message::decode(&bytes), Record::decode(&bytes), Login::decode(&bytes));
        let _ = (Opening::decode(&bytes), noise::FirstFrame::decode(&bytes));
    }
}

#[test]
fn what_is_shown_to_people_holds_no_control_characters() {
    let bytes = bytes_of(&Message::Join { room: "a\u{1b}[2Jb".into() });
    assert_eq!(Message::decode(&bytes), Ok(Message::Join { room: "a [2Jb".into() }));
}

#[test]
fn an_unknown_type_is_passed_over() {
    assert_eq!(Message::decode(&[0x7e, 1, 2]), Ok(Message::Unknown(0x7e)));
    assert_eq!(Record::decode(&[0x7e, 1, 2]), Ok(Record::Unknown(0x7e)));
}

fn body(frame: &[u8]) -> Vec<u8> {
    let mut bytes = frame.to_vec();
    let mut reader = FrameReader::new();
    reader.next(&mut bytes, limits::HANDSHAKE_FRAME_BYTES).unwrap().1.unwrap().to_vec()
}

fn logged_in(pinned: Option<PeerId>) -> Result<(Channel, Channel, Vec<u8>), NoiseError> {
    let (peer, server) = (SecretKey::generate(), SecretKey::generate());
    let (mut hello, mut reply, mut finish) = (Vec::new(), Vec::new(), Vec::new());
    let client = ClientHandshake::start(&peer, &mut hello);
    let handshake = noise::ServerHandshake::reply(&body(&hello), &server, &mut reply)?;
    let (ours, key) = client.finish(&body(&reply), pinned, b"login", &mut finish)?;
    assert_eq!(key, *server.public());
    let (theirs, key, payload) = handshake.finish(&body(&finish))?;
    assert_eq!(key, *peer.public());
    Ok((ours, theirs, payload))
}

#[test]
fn a_login_is_sealed_and_both_learn_who_the_other_is() {
    let (mut ours, mut theirs, payload) = logged_in(None).unwrap();
    assert_eq!(payload, b"login");
    let mut frame = Vec::new();
    ours.seal(&mut frame, |out| out.extend_from_slice(b"one"));
    let mut sealed = body(&frame);
    let mut again = sealed.clone();
    assert_eq!(theirs.open(&mut sealed).unwrap(), b"one");
    assert_eq!(theirs.open(&mut again), Err(NoiseError::Crypto), "played again");
}

#[test]
fn another_server_than_the_pinned_one_is_told_nothing() {
    let pinned = PeerId::from_bytes([1; 15]);
    assert!(
        matches!(logged_in(Some(pinned)), Err(NoiseError::WrongKey { expected, .. }) if expected == pinned)
    );
}

#[test]
fn a_version_that_differs_is_refused_in_words() {
    let (peer, server) = (SecretKey::generate(), SecretKey::generate());
    let (mut hello, mut reply, mut out) = (Vec::new(), Vec::new(), Vec::new());
    let client = ClientHandshake::start(&peer, &mut hello);
    let mut altered = body(&hello);
    altered[7] = 9;
    let refused = noise::ServerHandshake::reply(&altered, &server, &mut reply);
    let Err(error @ NoiseError::Version { theirs: 9 }) = refused else { panic!("not refused") };
    noise::refusal(&error, &mut out);
    let Err(told) = client.finish(&body(&out), None, &[], &mut Vec::new()) else { panic!() };
    assert!(told.to_string().contains("version"), "{told}");
}

#[test]
fn an_altered_record_is_recognised() {
    let (mut ours, mut theirs, _) = logged_in(None).unwrap();
    let mut frame = Vec::new();
    ours.seal(&mut frame, |out| out.extend_from_slice(b"one"));
    let mut sealed = body(&frame);
    sealed[0] ^= 1;
    assert_eq!(theirs.open(&mut sealed), Err(NoiseError::Crypto));
    assert_eq!(theirs.open(&mut [0; 3]), Err(NoiseError::Crypto), "shorter than a tag");
}

#[test]
fn a_path_is_proved_by_both_keys_the_introduction_and_the_nonce() {
    let (a, b, stranger) = (SecretKey::generate(), SecretKey::generate(), SecretKey::generate());
    let context = |remote: &SecretKey, introduction, nonce| PathContext {
        introduction,
        token: [3; 16],
        nonce: [nonce; 16],
        remote: *remote.public(),
    };
    let proved = |key: &SecretKey, theirs: PathContext, ours: PathContext| {
        let (mut offer, mut answer) = (Vec::new(), Vec::new());
        let handshake = PathHandshake::offer(&a, &ours, b"early", &mut offer);
        let body_of_offer = body(&offer);
        let noise::FirstFrame::Offer { handshake: bytes, .. } =
            noise::FirstFrame::decode(&body_of_offer).unwrap()
        else {
            panic!("an offer");
        };
        let (_, payload) = noise::answer(key, &theirs, bytes, &mut answer)?;
        assert_eq!(payload, b"early");
        let body_of_answer = body(&answer);
        let noise::FirstFrame::Answer(bytes) = noise::FirstFrame::decode(&body_of_answer).unwrap()
        else {
            panic!("an answer");
        };
        handshake.finish(bytes).map(|_| ())
    };
    assert_eq!(proved(&b, context(&a, 1, 2), context(&b, 1, 2)), Ok(()));
    let no = Err(NoiseError::Crypto);
    assert_eq!(proved(&stranger, context(&a, 1, 2), context(&b, 1, 2)), no, "another key");
    assert_eq!(proved(&b, context(&stranger, 1, 2), context(&b, 1, 2)), no, "another asker");
    assert_eq!(proved(&b, context(&a, 9, 2), context(&b, 1, 2)), no, "another introduction");
    assert_eq!(proved(&b, context(&a, 1, 9), context(&b, 1, 2)), no, "another login");
}
