//! Which name somebody may have meant.

/// Of the known names, the one that a wrong one is likely to stand for, as the end of a message.
pub(crate) fn nearest<'a>(wrong: &str, known: impl Iterator<Item = &'a str>) -> String {
    let wrong = wrong.to_lowercase();
    known
        .map(|name| (strsim::damerau_levenshtein(&wrong, name), name))
        .filter(|(distance, name)| *distance <= (name.len() / 3).max(1))
        .min()
        .map_or_else(String::new, |(_, name)| format!("; did you mean {name}?"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slip_is_recognised_and_another_word_is_not() {
        let names = ["relay", "relay-rate", "main"];
        for (wrong, meant) in [("rely", "relay"), ("relay_rate", "relay-rate"), ("mian", "main")] {
            assert_eq!(nearest(wrong, names.into_iter()), format!("; did you mean {meant}?"));
        }
        assert_eq!(nearest("address", names.into_iter()), "");
    }
}
