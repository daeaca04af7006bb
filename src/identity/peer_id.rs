//! Peer ids and their text form.
//!
//! ```text
//! PublicKey ──BLAKE2s-256──▶ 15 bytes ──base32──▶ 24 symbols + 4 check symbols
//!
//!   abcd-efgh-ijkl-mnop-qrst-uvwx-yz23
//!   └──────────── the id ───────┘ └┬─┘
//!                                check
//! ```
//!
//! The check symbols make the text a codeword of a Reed–Solomon code over GF(32), one letter a field
//! element. Its generator has four consecutive roots, and the word is no longer than 31 symbols, so
//! any two ids differ in at least five characters: up to four mistyped ones, and so every swap of
//! two, are always caught. A truncated hash would catch them with high probability.

use std::fmt;
use std::str::FromStr;

use blake2::{Blake2s256, Digest};

use super::base32;
use super::key::PublicKey;

/// What the hash of an id is for: keeps it from colliding with any other use of the hash.
const DOMAIN: &[u8] = b"gimlet peer id v1";

/// Bytes of an id: 120 bits, so that finding a second key for a given id is out of reach.
const ID_BYTES: usize = 15;

/// Base32 symbols that carry the id.
const DATA_SYMBOLS: usize = ID_BYTES * base32::GROUP_SYMBOLS / base32::GROUP_BYTES;

/// Base32 symbols that check it.
const CHECK_SYMBOLS: usize = 4;

/// Base32 symbols in the text of an id.
const SYMBOLS: usize = DATA_SYMBOLS + CHECK_SYMBOLS;

/// Symbols between two hyphens.
const GROUP: usize = 4;

/// Characters in the text of an id, hyphens included.
const TEXT_CHARS: usize = SYMBOLS + SYMBOLS / GROUP - 1;

/// Who a peer is, whatever its address: a hash of its public key.
///
/// Its text has seven groups of four characters, of which the last is a check. Parsing accepts upper
/// case, leaves hyphens out of account and trims white space.
///
/// ```
/// use gimlet::identity::PeerId;
///
/// let id = PeerId::from_bytes([7; 15]);
/// let text = id.to_string();
/// assert_eq!(text.len(), 34);
/// assert_eq!(text.to_uppercase().replace('-', "").parse(), Ok(id));
/// ```
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PeerId([u8; ID_BYTES]);

impl PeerId {
    /// The id of the peer that owns a key.
    pub fn of(key: &PublicKey) -> Self {
        let hash = Blake2s256::new().chain_update(DOMAIN).chain_update(key.as_bytes()).finalize();
        let mut id = [0; ID_BYTES];
        id.copy_from_slice(&hash[..ID_BYTES]);
        Self(id)
    }

    /// The id as it is on the wire.
    pub fn as_bytes(&self) -> &[u8; ID_BYTES] {
        &self.0
    }

    /// An id from the wire. Any bytes are an id; whether someone owns it shows in a handshake.
    pub fn from_bytes(bytes: [u8; ID_BYTES]) -> Self {
        Self(bytes)
    }
}

impl fmt::Display for PeerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut symbols = [0; SYMBOLS];
        let (data, check) = symbols.split_at_mut(DATA_SYMBOLS);
        base32::spread(&self.0, data);
        check.copy_from_slice(&check_symbols(data));
        let mut text = [b'-'; TEXT_CHARS];
        for (at, symbol) in symbols.into_iter().enumerate() {
            text[at + at / GROUP] = base32::letter(symbol);
        }
        f.pad(std::str::from_utf8(&text).expect("base32 and hyphens are ASCII"))
    }
}

impl fmt::Debug for PeerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PeerId({self})")
    }
}

impl FromStr for PeerId {
    type Err = ParsePeerIdError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let symbols = parse_symbols(text.trim())?;
        let (data, check) = symbols.split_at(DATA_SYMBOLS);
        if check != check_symbols(data) {
            return Err(ParsePeerIdError::Mistyped);
        }
        let mut id = [0; ID_BYTES];
        base32::gather(data, &mut id);
        Ok(Self(id))
    }
}

/// Reads as many symbols as an id has, hyphens left out.
fn parse_symbols(text: &str) -> Result<[u8; SYMBOLS], ParsePeerIdError> {
    let mut symbols = [0; SYMBOLS];
    let mut found = 0;
    for (at, letter) in text.chars().enumerate().filter(|(_, letter)| *letter != '-') {
        let Some(symbol) = base32::symbol(letter) else {
            return Err(ParsePeerIdError::Character { found: letter, position: at + 1 });
        };
        if let Some(slot) = symbols.get_mut(found) {
            *slot = symbol;
        }
        found += 1;
    }
    if found != SYMBOLS {
        return Err(ParsePeerIdError::Length { found });
    }
    Ok(symbols)
}

/// Why a text is not a peer id.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ParsePeerIdError {
    /// It has too few or too many characters.
    Length {
        /// How many characters it has, hyphens not counted.
        found: usize,
    },
    /// It has a character that no id contains.
    Character {
        /// That character.
        found: char,
        /// Where it is: 1 is the first character; hyphens count, white space around the text does
        /// not.
        position: usize,
    },
    /// It looks like an id, but its last four characters don't belong to the others.
    Mistyped,
}

impl fmt::Display for ParsePeerIdError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::Length { found } => {
                let ask = if found < SYMBOLS { "is a part missing?" } else { "is a part doubled?" };
                write!(
                    f,
                    "a peer id has {SYMBOLS} characters (seven groups of four), this has {found}: {ask}"
                )
            }
            Self::Character { found, position } => {
                write!(
                    f,
                    "{found:?} (character {position}) is not in the alphabet of peer ids, a-z and 2-7"
                )?;
                match lookalike(found) {
                    Some(meant) => write!(f, ": is it {meant}?"),
                    None => Ok(()),
                }
            }
            Self::Mistyped => f.write_str(
                "the peer id is mistyped, its last four characters don't fit the others: compare it \
                 with the original, or paste it",
            ),
        }
    }
}

impl std::error::Error for ParsePeerIdError {}

/// What someone who typed a character that the alphabet lacks may have seen.
fn lookalike(letter: char) -> Option<&'static str> {
    match letter {
        '0' => Some("the letter 'o'"),
        '1' | '|' | '!' => Some("the letter 'l' or 'i'"),
        '8' => Some("the letter 'b'"),
        '9' => Some("the letter 'g' or 'q'"),
        '\u{2010}'..='\u{2015}' | '\u{2212}' | '_' => Some("a hyphen"),
        _ => None,
    }
}

/// Added to the check symbols. A Reed–Solomon code is cyclic: without this, an id that starts with
/// the symbol zero could lose its first character, gain one at the end, and still be a codeword.
const CHECK_OFFSET: [u8; CHECK_SYMBOLS] = [6, 8, 12, 11];

/// The symbols that complete a word: its remainder on division by the generator, plus
/// [`CHECK_OFFSET`].
fn check_symbols(data: &[u8]) -> [u8; CHECK_SYMBOLS] {
    let mut remainder = [0; CHECK_SYMBOLS];
    for symbol in data {
        let lead = remainder[0] ^ symbol;
        remainder = [remainder[1], remainder[2], remainder[3], 0];
        for (slot, coefficient) in remainder.iter_mut().zip(GENERATOR) {
            *slot ^= multiply(lead, coefficient);
        }
    }
    std::array::from_fn(|at| remainder[at] ^ CHECK_OFFSET[at])
}

/// (x − α)(x − α²)(x − α³)(x − α⁴) without its leading coefficient 1, highest power first.
const GENERATOR: [u8; CHECK_SYMBOLS] = generator();

const fn generator() -> [u8; CHECK_SYMBOLS] {
    // Lowest power first while it is built: it starts as the polynomial 1.
    let mut product = [1, 0, 0, 0, 0];
    let mut root = 1;
    let mut degree = 0;
    while degree < CHECK_SYMBOLS {
        root = multiply(root, 2);
        degree += 1;
        let mut power = degree;
        while power > 0 {
            product[power] = product[power - 1] ^ multiply(root, product[power]);
            power -= 1;
        }
        product[0] = multiply(root, product[0]);
    }
    [product[3], product[2], product[1], product[0]]
}

/// Multiplies in GF(32): polynomials in α modulo α⁵ + α² + 1, in which α = 2 is primitive.
const fn multiply(a: u8, b: u8) -> u8 {
    let mut product = 0;
    let mut bit = 5;
    while bit > 0 {
        bit -= 1;
        product <<= 1;
        if product & 0b10_0000 != 0 {
            product ^= 0b10_0101;
        }
        if b >> bit & 1 != 0 {
            product ^= a;
        }
    }
    product
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::identity::SecretKey;
    use proptest::prelude::*;

    fn any_id() -> impl Strategy<Value = PeerId> {
        any::<[u8; 15]>().prop_map(PeerId::from_bytes)
    }

    /// The 28 letters of an id.
    fn letters(id: PeerId) -> Vec<u8> {
        id.to_string().replace('-', "").into_bytes()
    }

    fn parse(letters: &[u8]) -> Result<PeerId, ParsePeerIdError> {
        std::str::from_utf8(letters).unwrap().parse()
    }

    #[test]
    fn the_text_of_an_id_never_changes_between_versions() {
        let id = SecretKey::from_bytes(&[42; 32]).public().peer_id();
        assert_eq!(id.to_string(), "gfvs-x2gu-d2lv-yngh-hnt7-sk4k-riuc");
        assert_eq!(format!("{id:?}"), format!("PeerId({id})"));
        assert_eq!(format!("{id:>40}").len(), 40);
    }

    #[test]
    fn alpha_is_primitive() {
        let mut power = 1;
        for exponent in 1..=31 {
            power = multiply(power, 2);
            assert_eq!(power == 1, exponent == 31);
        }
    }

    #[test]
    fn the_generator_has_four_consecutive_roots() {
        for root in [2, 4, 8, 16] {
            let value = GENERATOR.iter().fold(1, |value, c| multiply(value, root) ^ c);
            assert_eq!(value, 0);
        }
    }

    #[test]
    fn every_swap_and_every_single_error_is_caught() {
        // The code is linear up to a constant, so what is caught in one word is caught in all.
        let id =
            PeerId::from_bytes(*b"\x00\x44\x32\x14\xc7\x42\x54\xb6\x35\xcf\x84\x65\x3a\x56\xd7");
        let text = letters(id);
        for i in 0..SYMBOLS {
            for j in 0..i {
                let mut swapped = text.clone();
                swapped.swap(i, j);
                if swapped != text {
                    assert_eq!(parse(&swapped), Err(ParsePeerIdError::Mistyped));
                }
            }
            for symbol in 0..32 {
                let mut wrong = text.clone();
                wrong[i] = base32::letter(symbol);
                assert_eq!(parse(&wrong).is_ok(), wrong == text);
            }
        }
    }

    #[test]
    fn a_character_lost_at_one_end_and_gained_at_the_other_is_caught() {
        // Whether it is depends on the lost and the gained character alone, so this is all of them.
        for lost in 0..32 {
            let mut bytes = [0x5a; 15];
            bytes[0] = lost << 3 | 0b010;
            let text = letters(PeerId::from_bytes(bytes));
            for gained in 0..32 {
                let gained = base32::letter(gained);
                let left = [&text[1..], &[gained]].concat();
                let right = [&[gained], &text[..SYMBOLS - 1]].concat();
                assert_eq!(parse(&left), Err(ParsePeerIdError::Mistyped));
                assert_eq!(parse(&right), Err(ParsePeerIdError::Mistyped));
            }
        }
    }

    #[test]
    fn a_wrong_length_is_counted_without_hyphens() {
        for (text, found) in [("", 0), ("----", 0), ("abcd-efgh", 8), (&"a".repeat(29), 29)] {
            assert_eq!(text.parse::<PeerId>(), Err(ParsePeerIdError::Length { found }));
        }
        let text = ParsePeerIdError::Length { found: 27 }.to_string();
        assert!(text.contains("this has 27: is a part missing?"), "{text}");
    }

    #[test]
    fn a_bad_character_is_named_with_its_place_and_what_it_may_be() {
        let error = "  abcd-ef0h".parse::<PeerId>().unwrap_err();
        assert_eq!(error, ParsePeerIdError::Character { found: '0', position: 8 });
        assert!(error.to_string().ends_with("is it the letter 'o'?"), "{error}");
        let error = "abcd–efgh".parse::<PeerId>().unwrap_err();
        assert!(error.to_string().ends_with("is it a hyphen?"), "{error}");
    }

    proptest! {
        #[test]
        fn text_round_trips_however_it_is_written(id in any_id()) {
            let text = id.to_string();
            prop_assert_eq!(text.len(), TEXT_CHARS);
            prop_assert!(text.split('-').all(|group| group.len() == GROUP));
            prop_assert_eq!(text.parse(), Ok(id));
            prop_assert_eq!(text.to_uppercase().parse(), Ok(id));
            prop_assert_eq!(text.replace('-', "").parse(), Ok(id));
            prop_assert_eq!(format!("\t {text}\r\n").parse(), Ok(id));
        }

        #[test]
        fn up_to_four_mistyped_characters_are_caught(
            id in any_id(),
            errors in prop::collection::btree_map(0..SYMBOLS, 1u8..32, 1..=4),
        ) {
            let mut text = letters(id);
            for (at, error) in errors {
                let right = base32::symbol(char::from(text[at])).unwrap();
                text[at] = base32::letter(right ^ error);
            }
            prop_assert_eq!(parse(&text), Err(ParsePeerIdError::Mistyped));
        }

        #[test]
        fn any_text_is_an_id_or_an_error(text: String) {
            if let Ok(id) = text.parse::<PeerId>() {
                prop_assert_eq!(id.to_string().parse(), Ok(id));
            }
        }
    }
}
