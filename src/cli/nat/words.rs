//! The terms of RFC 4787 and RFC 5382, which tables and events share. They never change.

use crate::proto::punch::report;
use crate::wire::message::{Allocation, Filtering, Hairpinning, Mapping, Pooling, Refusal};

use super::super::report_json;

/// RFC 4787 §4.1.
pub(crate) fn mapping(mapping: Mapping) -> &'static str {
    report::mapping(mapping)
}

/// RFC 4787 §4.2.
pub(crate) fn allocation(allocation: Allocation) -> &'static str {
    report_json::allocation(allocation)
}

/// RFC 4787 §4.1, REQ-2.
pub(crate) fn pooling(pooling: Pooling) -> &'static str {
    match pooling {
        Pooling::Unknown => "unknown",
        Pooling::Paired => "paired",
        Pooling::Arbitrary => "arbitrary",
    }
}

/// RFC 4787 §5.
pub(crate) fn filtering(filtering: Filtering) -> &'static str {
    match filtering {
        Filtering::Unknown => "unknown",
        Filtering::EndpointIndependent => "endpoint-independent",
        Filtering::AddressDependent => "address-dependent",
        Filtering::AddressAndPortDependent => "address-and-port-dependent",
    }
}

/// RFC 5382 §4.3, REQ-4.
pub(crate) fn refusal(refusal: Refusal) -> &'static str {
    match refusal {
        Refusal::Unknown => "unknown",
        Refusal::Silence => "silence",
        Refusal::Rst => "rst",
        Refusal::Icmp => "icmp",
    }
}

/// RFC 4787 §6.
pub(crate) fn hairpinning(hairpinning: Hairpinning) -> &'static str {
    match hairpinning {
        Hairpinning::Unknown => "unknown",
        Hairpinning::Supported => "supported",
        Hairpinning::Unsupported => "unsupported",
    }
}
