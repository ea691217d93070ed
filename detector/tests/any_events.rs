//! Whatever comes, in whatever order: `handle` never panics, calls nothing `down` (I1) or safe to start elsewhere (I7)
//! without a word that proves it, and does the same again for the same events (I8). `fuzz/` searches the same space for
//! longer.

mod wild;

use proptest::prelude::*;

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, ..ProptestConfig::default() })]

    #[test]
    fn arbitrary_events_never_panic_prove_nothing_by_themselves_and_give_the_same_orders_again(
        bytes in prop::collection::vec(any::<u8>(), 0..4_000),
    ) {
        let events = wild::decode(&bytes);
        prop_assert_eq!(wild::play(&events), wild::play(&events));
    }
}

#[test]
fn the_decoder_says_every_kind_of_event_and_moves_some_of_them_to_an_order() {
    // A plain walk over numbers, so that this never depends on luck.
    let bytes: Vec<u8> = (0..60_000u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
    let mut kinds = std::collections::BTreeSet::new();
    let mut orders = 0;
    for part in bytes.chunks(3_000) {
        let events = wild::decode(part);
        kinds.extend(events.iter().map(|(_, event)| format!("{event:?}").split([' ', '(']).next().map(str::to_owned)));
        orders += wild::play(&events).iter().flatten().count();
    }
    assert!(kinds.len() >= 17, "{kinds:?}");
    assert!(orders > 0);
}
