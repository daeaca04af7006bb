//! Whom a NAT or a firewall lets in.

use crate::wire::message::{DialBackEnd, Filtering, Refusal};

/// Classifies the filtering by how dials to a mapped endpoint ended that the inside had used towards one
/// endpoint of S alone: from the same address and another port, and from another address (RFC 5780 §4.4,
/// with TCP connections in the place of its tests II and III). And what those drew that were not let in.
///
/// Where only the dial from the same address was made and came in, the filter may be weaker than what is
/// said: that nobody was seen to be kept out is all that one address of S can show.
pub fn classify_filtering(same: DialBackEnd, other: DialBackEnd) -> (Filtering, Refusal) {
    use DialBackEnd::{Connected, NotMade};
    let filtering = match (same, other) {
        (_, Connected) => Filtering::EndpointIndependent,
        (Connected, _) => Filtering::AddressDependent,
        (NotMade, _) => Filtering::Unknown,
        _ => Filtering::AddressAndPortDependent,
    };
    (filtering, [same, other].into_iter().find_map(refusal).unwrap_or_default())
}

fn refusal(end: DialBackEnd) -> Option<Refusal> {
    match end {
        DialBackEnd::NotMade | DialBackEnd::Connected => None,
        DialBackEnd::Rst => Some(Refusal::Rst),
        DialBackEnd::Icmp => Some(Refusal::Icmp),
        DialBackEnd::Silence => Some(Refusal::Silence),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use DialBackEnd::{Connected, Icmp, NotMade, Rst, Silence};

    #[test]
    fn who_comes_in_shows_the_filter() {
        let cases = [
            (Connected, Connected, Filtering::EndpointIndependent, Refusal::Unknown),
            (Connected, Silence, Filtering::AddressDependent, Refusal::Silence),
            (Connected, NotMade, Filtering::AddressDependent, Refusal::Unknown),
            (Rst, Rst, Filtering::AddressAndPortDependent, Refusal::Rst),
            (Icmp, Icmp, Filtering::AddressAndPortDependent, Refusal::Icmp),
            (Silence, NotMade, Filtering::AddressAndPortDependent, Refusal::Silence),
            (NotMade, Silence, Filtering::Unknown, Refusal::Silence),
            (NotMade, Connected, Filtering::EndpointIndependent, Refusal::Unknown),
            (NotMade, NotMade, Filtering::Unknown, Refusal::Unknown),
        ];
        for (same, other, filtering, refusal) in cases {
            assert_eq!(
                classify_filtering(same, other),
                (filtering, refusal),
                "{same:?}, {other:?}"
            );
        }
    }
}
