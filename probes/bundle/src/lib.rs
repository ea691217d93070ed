//! The bytes of the shipped probes.
