//! The judges: pure functions from evidence to a judgement that can explain itself.

pub(crate) mod group;
pub(crate) mod guest;
pub(crate) mod path;
pub(crate) mod vm;
