//! What frames a machine may send: rules of nftables (family `bridge`) per tap, in a table of vouch's own.
//!
//! Every tap gets its source MAC and, where addresses are known, its source addresses pinned. The management leg of a
//! watcher is narrowed further to the managers' and relays' ports, so that a watcher that was taken over can reach
//! nothing else there. The rules are made as text, which can be tested; one `nft -f -` per change applies them whole.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};

use super::HypervisorError;
use super::launcher::run_command;

/// The table of family `bridge` that holds all of vouch's rules.
pub(crate) const TABLE: &str = "vouch";

/// What one tap may send.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct TapRules {
    pub(crate) tap: String,
    pub(crate) mac: String,
    /// The addresses that it may send from; with none given, any.
    pub(crate) addresses: Vec<IpAddr>,
    pub(crate) reach: Reach,
}

/// Whom a tap may send to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Reach {
    /// Anybody.
    Any,
    /// These endpoints and, on any address, these TCP ports; and ICMP.
    Only { endpoints: BTreeSet<SocketAddr>, ports: BTreeSet<u16> },
}

fn set<T: ToString>(items: impl IntoIterator<Item = T>) -> String {
    let items: Vec<String> = items.into_iter().map(|i| i.to_string()).collect();
    format!("{{ {} }}", items.join(", "))
}

impl TapRules {
    /// Returns the rules as input for `nft -f`.
    pub(crate) fn script(&self) -> String {
        let tap = &self.tap;
        let mut lines = vec![
            format!("add table bridge {TABLE}"),
            format!("add map bridge {TABLE} taps {{ type ifname : verdict; }}"),
            format!(
                "add chain bridge {TABLE} from_tap {{ type filter hook prerouting priority -300; policy accept; }}"
            ),
            // One dispatch rule, however often this runs.
            format!("flush chain bridge {TABLE} from_tap"),
            format!("add rule bridge {TABLE} from_tap iifname vmap @taps"),
            format!("add chain bridge {TABLE} {tap}"),
            format!("flush chain bridge {TABLE} {tap}"),
        ];
        let mut rule = |text: String| lines.push(format!("add rule bridge {TABLE} {tap} {text}"));
        let mac = &self.mac;
        rule(format!("ether saddr != {mac} drop"));
        rule(format!("arp saddr ether != {mac} drop"));
        if !self.addresses.is_empty() {
            let v4: Vec<_> = self.addresses.iter().filter(|a| a.is_ipv4()).collect();
            let v6: Vec<_> = self.addresses.iter().filter(|a| a.is_ipv6()).collect();
            if v4.is_empty() {
                rule("ether type { ip, arp } drop".to_owned());
            } else {
                rule(format!("arp saddr ip != {} drop", set(&v4)));
                rule(format!("ip saddr != {} drop", set(&v4)));
            }
            // Link-local addresses are IPv6's own housekeeping.
            let local = ["fe80::/10".to_owned(), "::".to_owned()];
            rule(format!("ip6 saddr != {} drop", set(v6.iter().map(ToString::to_string).chain(local))));
        }
        if let Reach::Only { endpoints, ports } = &self.reach {
            rule("ether type arp accept".to_owned());
            rule("ip protocol icmp accept".to_owned());
            rule("ip6 nexthdr icmpv6 accept".to_owned());
            for endpoint in endpoints {
                let family = if endpoint.is_ipv4() { "ip" } else { "ip6" };
                rule(format!("{family} daddr {} tcp dport {} accept", endpoint.ip(), endpoint.port()));
            }
            if !ports.is_empty() {
                rule(format!("tcp dport {} accept", set(ports)));
            }
            rule("drop".to_owned());
        }
        lines.push(format!("add element bridge {TABLE} taps {{ \"{tap}\" : jump {tap} }}"));
        lines.join("\n") + "\n"
    }

    /// Applies the rules.
    pub(crate) async fn apply(&self) -> Result<(), HypervisorError> {
        remove(&self.tap).await;
        run_command("nft", &["-f", "-"], Some(&self.script())).await
    }
}

/// Removes the rules of a tap, if there are any.
pub(crate) async fn remove(tap: &str) {
    let script = format!(
        "delete element bridge {TABLE} taps {{ \"{tap}\" }}\nflush chain bridge {TABLE} {tap}\ndelete chain bridge {TABLE} {tap}\n"
    );
    // It fails when there is nothing to remove, which is what is wanted.
    let _ = run_command("nft", &["-f", "-"], Some(&script)).await;
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rules(reach: Reach) -> TapRules {
        TapRules {
            tap: "vt0".into(),
            mac: "52:54:00:01:00:01".into(),
            addresses: vec!["10.1.0.5".parse().unwrap()],
            reach,
        }
    }

    #[test]
    fn a_vm_may_send_to_anybody_but_only_as_itself() {
        let script = rules(Reach::Any).script();
        assert!(script.contains("ether saddr != 52:54:00:01:00:01 drop"));
        assert!(script.contains("ip saddr != { 10.1.0.5 } drop"));
        assert!(script.contains("arp saddr ip != { 10.1.0.5 } drop"));
        assert!(!script.contains("tcp dport"));
    }

    #[test]
    fn a_watchers_management_leg_ends_in_a_drop() {
        let endpoints = BTreeSet::from(["10.1.0.1:7001".parse().unwrap()]);
        let script = rules(Reach::Only { endpoints, ports: BTreeSet::from([7002]) }).script();
        let lines: Vec<_> = script.lines().filter(|l| l.starts_with("add rule bridge vouch vt0 ")).collect();
        assert!(lines.contains(&"add rule bridge vouch vt0 ip daddr 10.1.0.1 tcp dport 7001 accept"));
        assert!(lines.contains(&"add rule bridge vouch vt0 tcp dport { 7002 } accept"));
        assert!(lines.contains(&"add rule bridge vouch vt0 ip protocol icmp accept"), "watchers watch one another");
        assert!(lines.contains(&"add rule bridge vouch vt0 ip6 nexthdr icmpv6 accept"));
        assert_eq!(lines.last(), Some(&"add rule bridge vouch vt0 drop"));
    }
}
