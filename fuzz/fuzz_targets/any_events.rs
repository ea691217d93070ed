//! Arbitrary events for the detector: see `detector/tests/wild`, which says how bytes become events and what must hold.

#![no_main]

#[path = "../../detector/tests/wild/mod.rs"]
mod wild;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let events = wild::decode(bytes);
    assert_eq!(wild::play(&events), wild::play(&events), "I8: the same events gave other orders");
});
