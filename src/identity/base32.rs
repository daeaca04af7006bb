//! Base32 (RFC 4648 §6) in lower case. We only write whole groups of five bytes, which are eight
//! symbols, so that padding never arises.

const ALPHABET: &[u8; 32] = b"abcdefghijklmnopqrstuvwxyz234567";

/// Bytes in a group.
pub(super) const GROUP_BYTES: usize = 5;

/// Symbols in a group.
pub(super) const GROUP_SYMBOLS: usize = 8;

/// The character that stands for a symbol, of which the low five bits count.
pub(super) fn letter(symbol: u8) -> u8 {
    ALPHABET[usize::from(symbol & 31)]
}

/// The symbol that a character stands for, in either case.
pub(super) fn symbol(letter: char) -> Option<u8> {
    let letter = u8::try_from(letter).ok()?.to_ascii_lowercase();
    match letter {
        b'a'..=b'z' => Some(letter - b'a'),
        b'2'..=b'7' => Some(letter - b'2' + 26),
        _ => None,
    }
}

/// Spreads bytes over symbols of five bits. Both slices hold the same number of whole groups.
pub(super) fn spread(bytes: &[u8], symbols: &mut [u8]) {
    debug_assert_eq!(bytes.len() * GROUP_SYMBOLS, symbols.len() * GROUP_BYTES);
    let groups = bytes.chunks_exact(GROUP_BYTES).zip(symbols.chunks_exact_mut(GROUP_SYMBOLS));
    for (bytes, symbols) in groups {
        let bits = bytes.iter().fold(0u64, |bits, byte| bits << 8 | u64::from(*byte));
        for (at, symbol) in symbols.iter_mut().enumerate() {
            *symbol = (bits >> (35 - 5 * at)) as u8 & 31;
        }
    }
}

/// Gathers symbols of five bits into bytes: the reverse of [`spread`].
pub(super) fn gather(symbols: &[u8], bytes: &mut [u8]) {
    debug_assert_eq!(bytes.len() * GROUP_SYMBOLS, symbols.len() * GROUP_BYTES);
    let groups = symbols.chunks_exact(GROUP_SYMBOLS).zip(bytes.chunks_exact_mut(GROUP_BYTES));
    for (symbols, bytes) in groups {
        let bits = symbols.iter().fold(0u64, |bits, symbol| bits << 5 | u64::from(*symbol & 31));
        for (at, byte) in bytes.iter_mut().enumerate() {
            *byte = (bits >> (32 - 8 * at)) as u8;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn agrees_with_the_vectors_of_rfc_4648() {
        // §10 has one vector that fills its groups: "fooba" is "MZXW6YTB".
        let mut symbols = [0; 8];
        spread(b"fooba", &mut symbols);
        assert_eq!(symbols.map(letter), *b"mzxw6ytb");
    }

    #[test]
    fn each_symbol_has_one_letter_in_two_cases() {
        for value in 0..32 {
            let lower = char::from(letter(value));
            assert_eq!(symbol(lower), Some(value));
            assert_eq!(symbol(lower.to_ascii_uppercase()), Some(value));
        }
        for stranger in ['0', '1', '8', '9', '-', '=', ' ', 'ä', 'ſ', '\u{212a}'] {
            assert_eq!(symbol(stranger), None, "{stranger}");
        }
    }

    proptest! {
        #[test]
        fn gathers_what_it_spread(bytes: [u8; 15]) {
            let mut symbols = [0; 24];
            spread(&bytes, &mut symbols);
            let mut again = [0; 15];
            gather(&symbols, &mut again);
            prop_assert_eq!(bytes, again);
        }
    }
}
