//! The pages: what stands behind the code.

#[doc = include_str!("protocol.md")]
pub mod protocol {}

#[doc = include_str!("punching.md")]
pub mod punching {}

#[doc = include_str!("nat.md")]
pub mod nat {}

#[doc = include_str!("threat_model.md")]
pub mod threat_model {}

#[doc = include_str!("operations.md")]
pub mod operations {}

#[doc = include_str!("benchmarks.md")]
pub mod benchmarks {}

#[doc = include_str!("nat_tables.md")]
#[doc = include_str!("nat_tables.svg")]
pub mod nat_tables {}
