//! Direct TCP between two machines behind NATs.

pub mod identity;
pub mod limits;
pub mod net;
pub mod proto;
pub mod wire;
