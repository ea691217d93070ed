//! The targets: addresses of 127.0.0.0/8, all of them one kernel, with one service behind each port.

use std::net::Ipv4Addr;

/// How many targets are checked.
pub(crate) const TARGETS: usize = 1_000;

/// Returns the address of a target.
pub(crate) fn address(number: usize) -> Ipv4Addr {
    // Past 127.0.0.0/16, where this machine's own services may listen.
    let number = u32::try_from(number % TARGETS).unwrap_or(0);
    Ipv4Addr::from_bits(Ipv4Addr::new(127, 1, 0, 1).to_bits() + number)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_target_has_an_address_of_its_own_on_loopback() {
        let addresses: BTreeSet<_> = (0..TARGETS).map(address).collect();
        assert_eq!(addresses.len(), TARGETS);
        assert!(addresses.iter().all(Ipv4Addr::is_loopback));
    }
}
