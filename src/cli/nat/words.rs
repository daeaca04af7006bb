//! The terms of RFC 4787 and RFC 5382, which tables and events share. They never change.

pub(crate) use super::super::report_json::{allocation, filtering, hairpinning, pooling, refusal};
pub(crate) use crate::proto::punch::report::mapping;
