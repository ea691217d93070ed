//! What a look found, in the names of `blackbox_exporter` 0.23, whose dashboards and alerts work on it. Pure.
//!
//! What a probe tells by the names that the contract gives (facts, samples, phases) becomes the series of that exporter's
//! prober; a series whose value is not known is 0 where the exporter says 0 too, and left out where that would be wrong.
//! Whatever else a probe measures has series of vouch's own, `vouch_probe_*`.

use std::net::IpAddr;
use std::sync::atomic::AtomicU64;

use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::view::LookView;

type Labels = Vec<(&'static str, String)>;

/// The prober of `blackbox_exporter` that a probe does the work of.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Prober {
    Http,
    Tcp,
    Icmp,
    Dns,
}

impl Prober {
    /// Returns that of a shipped probe; others, and those that users write, have none.
    fn of(probe: &str) -> Option<Self> {
        match probe {
            "http" => Some(Self::Http),
            "tcp" | "rdp" | "ssh" | "vnc" | "spice" => Some(Self::Tcp),
            "ping" => Some(Self::Icmp),
            "dns" => Some(Self::Dns),
            _ => None,
        }
    }
}

/// Series of one scrape.
pub(super) struct Series(pub(super) Registry);

impl Series {
    pub(super) fn set(&mut self, name: &str, help: &str, value: f64) {
        let gauge = Gauge::<f64, AtomicU64>::default();
        gauge.set(value);
        self.0.register(name, help, gauge);
    }

    fn each(&mut self, name: &str, help: &str, values: impl IntoIterator<Item = (Labels, f64)>) {
        let family = Family::<Labels, Gauge<f64, AtomicU64>>::default();
        for (labels, value) in values {
            family.get_or_create(&labels).set(value);
        }
        self.0.register(name, help, family);
    }

    fn phases(&mut self, name: &str, help: &str, phases: &[(&'static str, f64)]) {
        self.each(name, help, phases.iter().map(|(phase, took)| (vec![("phase", (*phase).to_owned())], *took)));
    }

    /// Adds what one look found; `address` is where it looked.
    pub(super) fn add(&mut self, look: &LookView, address: Option<IpAddr>) {
        self.set("probe_duration_seconds", "Returns how long the probe took to complete in seconds", look.seconds);
        self.set(
            "probe_dns_lookup_time_seconds",
            "Returns the time taken for probe dns lookup in seconds: none, targets are addresses",
            0.0,
        );
        if let Some(address) = address.map(|address| address.to_canonical()) {
            let version = if address.is_ipv4() { 4.0 } else { 6.0 };
            self.set("probe_ip_protocol", "Specifies whether probe ip protocol is IP4 or IP6", version);
            let help = "Specifies the hash of IP address. It's useful to detect if the IP address changes.";
            self.set("probe_ip_addr_hash", help, hash_of(address));
        }
        // An answer of which nothing is told is not one of length 0.
        let prober = Prober::of(&look.probe).filter(|_| look.is_told() || look.outcome == "down");
        match prober {
            Some(Prober::Http) => self.add_http(look),
            Some(Prober::Tcp) => self.add_regex(look),
            Some(Prober::Icmp) => self.add_icmp(look),
            Some(Prober::Dns) => self.add_dns(look),
            None => {}
        }
        self.add_tls(look);
        self.add_own(look);
    }

    fn add_regex(&mut self, look: &LookView) {
        // What is looked for is not in the body, or not what the service greets with.
        let failed = if matches!(look.reason.as_str(), "body" | "unexpected") { 1.0 } else { 0.0 };
        self.set("probe_failed_due_to_regex", "Indicates if probe failed due to regex", failed);
    }

    fn add_http(&mut self, look: &LookView) {
        let number = |text: Option<&str>| text.and_then(|text| text.parse().ok()).unwrap_or_default();
        self.phases(
            "probe_http_duration_seconds",
            "Duration of http request by phase, summed over all redirects",
            &[
                ("resolve", 0.0),
                ("connect", look.phase("connect").unwrap_or_default()),
                ("tls", look.phase("handshake").unwrap_or_default()),
                ("processing", look.phase("answer").unwrap_or_default()),
                ("transfer", look.phase("body").unwrap_or_default()),
            ],
        );
        let version = look.fact("protocol").and_then(|protocol| protocol.strip_prefix("HTTP/"));
        self.set("probe_http_status_code", "Response HTTP status code", number(look.fact("status")));
        self.set("probe_http_version", "Returns the version of HTTP of the probe response", number(version));
        self.set("probe_http_redirects", "The number of redirects: none is followed", 0.0);
        // Without a length, and without an answer or a body that could have one (RFC 9110, section 15).
        let no_length = if matches!(look.fact("status"), None | Some("204" | "304")) { 0.0 } else { -1.0 };
        let length = look.sample("content_length").unwrap_or(no_length);
        self.set("probe_http_content_length", "Length of http content response, -1 where none is announced", length);
        let help = "Length of uncompressed response body, as far as it was read";
        self.set("probe_http_uncompressed_body_length", help, look.sample("body").unwrap_or_default());
        let over_tls = if look.fact("tls_version").is_some() { 1.0 } else { 0.0 };
        self.set("probe_http_ssl", "Indicates if SSL was used for the final redirect", over_tls);
        self.add_regex(look);
    }

    fn add_icmp(&mut self, look: &LookView) {
        let round_trip = look.sample("round_trip_mean").unwrap_or_default();
        self.phases(
            "probe_icmp_duration_seconds",
            "Duration of icmp request by phase: the mean round trip of all that were answered",
            &[("resolve", 0.0), ("setup", 0.0), ("rtt", round_trip)],
        );
    }

    fn add_dns(&mut self, look: &LookView) {
        let took = look.phase("answer");
        let phases = [("resolve", 0.0), ("connect", 0.0), ("request", took.unwrap_or_default())];
        self.phases("probe_dns_duration_seconds", "Duration of DNS request by phase", &phases);
        let succeeded = if took.is_some() || look.reason == "truncated" { 1.0 } else { 0.0 };
        self.set("probe_dns_query_succeeded", "Displays whether or not the query was executed successfully", succeeded);
        let records = [
            ("probe_dns_answer_rrs", "Returns number of entries in the answer resource record list", "records"),
            ("probe_dns_authority_rrs", "Returns number of entries in the authority record list", "authorities"),
            ("probe_dns_additional_rrs", "Returns number of entries in the additional record list", "additionals"),
        ];
        for (name, help, sample) in records {
            self.set(name, help, look.sample(sample).unwrap_or_default());
        }
    }

    /// Adds what a handshake showed, whatever probe did it.
    fn add_tls(&mut self, look: &LookView) {
        let expires = look.fact("certificate_expires").and_then(|at| OffsetDateTime::parse(at, &Rfc3339).ok());
        if let Some(expires) = expires {
            // Seconds of any date that a certificate can have: far below 2^52.
            #[expect(clippy::cast_precision_loss, reason = "it is small")]
            let at = expires.unix_timestamp() as f64;
            let help = "Returns the earliest expiry of the certificate that was shown, in unixtime";
            self.set("probe_ssl_earliest_cert_expiry", help, at);
        }
        if let Some(version) = look.fact("tls_version") {
            let labels = vec![("version", version.to_owned())];
            let help = "Returns the TLS version used or NaN when unknown";
            self.each("probe_tls_version_info", help, [(labels, 1.0)]);
        }
        if let Some(fingerprint) = look.fact("certificate_sha256") {
            let told = |name: &str| look.fact(name).unwrap_or_default().to_owned();
            let names = told("certificate_names");
            let names: Vec<&str> = names.split(", ").filter(|name| name.parse::<IpAddr>().is_err()).collect();
            let labels = vec![
                ("fingerprint_sha256", fingerprint.to_ascii_lowercase()),
                ("subject", last_first(&told("certificate_subject"))),
                ("issuer", last_first(&told("certificate_issuer"))),
                ("subjectalternative", names.join(",")),
            ];
            self.each("probe_ssl_last_chain_info", "Contains SSL leaf certificate information", [(labels, 1.0)]);
        }
    }

    /// Adds all that the probe measured, by its own names.
    fn add_own(&mut self, look: &LookView) {
        let phases = look.phases.iter().map(|p| (vec![("phase", p.name.clone())], p.seconds));
        self.each("vouch_probe_phase_seconds", "How long a step of the probe took", phases);
        let samples =
            look.samples.iter().map(|s| (vec![("sample", s.name.clone()), ("unit", s.unit.clone())], s.value));
        self.each("vouch_probe_sample", "What the probe measured", samples);
    }

    /// Adds the facts as labels. Their values are what the target says, and each new one is a new series: only for whoever
    /// asks for it.
    pub(super) fn add_facts(&mut self, look: &LookView) {
        let facts = look.facts.iter().map(|f| (vec![("fact", f.name.clone()), ("value", f.value.clone())], 1.0));
        self.each("vouch_probe_fact", "What the probe learnt", facts);
    }
}

/// Returns a distinguished name as RFC 2253 and the exporter write it, the last part first: `C=DE, CN=desk` is
/// `CN=desk,C=DE`.
fn last_first(name: &str) -> String {
    name.rsplit(", ").collect::<Vec<_>>().join(",")
}

/// Returns the FNV-1a hash of 32 bits of an address (draft-eastlake-fnv), as `blackbox_exporter` does.
fn hash_of(address: IpAddr) -> f64 {
    let add = |hash: u32, byte: &u8| (hash ^ u32::from(*byte)).wrapping_mul(0x0100_0193);
    let basis = 0x811c_9dc5;
    f64::from(match address {
        IpAddr::V4(v4) => v4.octets().iter().fold(basis, add),
        IpAddr::V6(v6) => v6.octets().iter().fold(basis, add),
    })
}

#[cfg(test)]
mod tests {
    use prometheus_client::encoding::text::encode;

    use super::*;
    use crate::api::view::{FactView, PhaseView, SampleView};

    const DESK: Option<IpAddr> = Some(IpAddr::V4(std::net::Ipv4Addr::LOCALHOST));

    fn look(probe: &str, phases: &[(&str, f64)], samples: &[(&str, f64)], facts: &[(&str, &str)]) -> LookView {
        let own = |text: &str| text.to_owned();
        let sample = |(name, value): &(&str, f64)| SampleView { name: own(name), value: *value, unit: own("x") };
        LookView {
            probe: own(probe),
            outcome: own("up"),
            seconds: 0.25,
            phases: phases.iter().map(|(name, seconds)| PhaseView { name: own(name), seconds: *seconds }).collect(),
            samples: samples.iter().map(sample).collect(),
            facts: facts.iter().map(|(name, value)| FactView { name: own(name), value: own(value) }).collect(),
            ..LookView::default()
        }
    }

    /// The lines of a scrape that are series of `blackbox_exporter`.
    fn told(look: &LookView) -> Vec<String> {
        let mut series = Series(Registry::default());
        series.add(look, DESK);
        let mut text = String::new();
        encode(&mut text, &series.0).unwrap();
        text.lines().filter(|line| line.starts_with("probe_")).map(ToOwned::to_owned).collect()
    }

    #[track_caller]
    fn assert_told(look: &LookView, expected: &[&str]) {
        const ALL: [&str; 4] = [
            "probe_duration_seconds 0.25",
            "probe_dns_lookup_time_seconds 0.0",
            "probe_ip_protocol 4.0",
            "probe_ip_addr_hash 3668918509.0",
        ];
        let mut told = told(look);
        let mut expected: Vec<&str> = ALL.into_iter().chain(expected.iter().copied()).collect();
        told.sort();
        expected.sort_unstable();
        assert_eq!(told, expected);
    }

    #[test]
    fn http_over_tls_has_all_its_series() {
        let found = look(
            "http",
            &[("connect", 0.001), ("handshake", 0.002), ("answer", 0.003), ("body", 0.004)],
            &[("body", 5.0), ("content_length", 6.0), ("certificate_left", 9.0)],
            &[
                ("protocol", "HTTP/1.1"),
                ("status", "200"),
                ("tls_version", "TLS 1.3"),
                ("certificate_sha256", "AB01"),
                ("certificate_expires", "2027-01-14T08:00:00Z"),
                ("certificate_names", "desk, 192.0.2.1, desk.example"),
                ("certificate_subject", "C=DE, O=Farm, CN=desk"),
                ("certificate_issuer", "CN=farm"),
            ],
        );
        assert_told(
            &found,
            &[
                "probe_http_duration_seconds{phase=\"resolve\"} 0.0",
                "probe_http_duration_seconds{phase=\"connect\"} 0.001",
                "probe_http_duration_seconds{phase=\"tls\"} 0.002",
                "probe_http_duration_seconds{phase=\"processing\"} 0.003",
                "probe_http_duration_seconds{phase=\"transfer\"} 0.004",
                "probe_http_status_code 200.0",
                "probe_http_version 1.1",
                "probe_http_redirects 0.0",
                "probe_http_content_length 6.0",
                "probe_http_uncompressed_body_length 5.0",
                "probe_http_ssl 1.0",
                "probe_failed_due_to_regex 0.0",
                "probe_ssl_earliest_cert_expiry 1799913600.0",
                "probe_tls_version_info{version=\"TLS 1.3\"} 1.0",
                "probe_ssl_last_chain_info{fingerprint_sha256=\"ab01\",subject=\"CN=desk,O=Farm,C=DE\",issuer=\"CN=farm\",\
                 subjectalternative=\"desk,desk.example\"} 1.0",
            ],
        );
    }

    #[test]
    fn a_body_that_does_not_hold_the_text_failed_due_to_regex() {
        let found = LookView { reason: "body".to_owned(), ..look("http", &[], &[], &[("status", "404")]) };
        let told = told(&found);
        for line in [
            "probe_failed_due_to_regex 1.0",
            "probe_http_status_code 404.0",
            "probe_http_ssl 0.0",
            "probe_http_content_length -1.0",
        ] {
            assert!(told.iter().any(|told| told == line), "{line} in {told:?}");
        }
        assert!(!told.iter().any(|line| line.starts_with("probe_ssl") || line.starts_with("probe_tls")), "{told:?}");
    }

    #[test]
    fn ping_tells_its_round_trip_and_silence_is_0_as_the_exporter_says_it() {
        let icmp = |rtt: &str| {
            ["resolve\"} 0.0".to_owned(), "setup\"} 0.0".to_owned(), format!("rtt\"}} {rtt}")]
                .map(|end| format!("probe_icmp_duration_seconds{{phase=\"{end}"))
        };
        let answered = look("ping", &[], &[("round_trip_mean", 0.5)], &[]);
        assert_told(&answered, &icmp("0.5").each_ref().map(String::as_str));
        assert_told(&look("ping", &[], &[("sent", 3.0)], &[]), &icmp("0.0").each_ref().map(String::as_str));
    }

    #[test]
    fn a_length_that_is_not_announced_is_0_only_where_there_is_no_body() {
        for (status, length) in [("200", "-1.0"), ("404", "-1.0"), ("204", "0.0"), ("304", "0.0")] {
            let told = told(&look("http", &[], &[], &[("status", status)]));
            let line = format!("probe_http_content_length {length}");
            assert!(told.contains(&line), "{status}: {told:?}");
        }
    }

    #[test]
    fn an_answer_of_which_nothing_is_told_is_no_answer_of_nothing() {
        let untold = look("http", &[], &[], &[]);
        assert_told(&untold, &[]);
        let closed = told(&LookView { outcome: "down".to_owned(), ..untold });
        assert!(closed.iter().any(|line| line == "probe_http_status_code 0.0"), "{closed:?}");
    }

    #[test]
    fn reasons_become_what_the_exporter_has_a_series_for() {
        let of = |probe: &str, reason: &str| {
            let phases: &[_] = if reason == "answered" { &[("answer", 0.5)] } else { &[] };
            told(&LookView { reason: reason.to_owned(), ..look(probe, phases, &[], &[("protocol", "x")]) })
        };
        for (probe, reason, line) in [
            ("ssh", "unexpected", "probe_failed_due_to_regex 1.0"),
            ("ssh", "greeted", "probe_failed_due_to_regex 0.0"),
            ("dns", "truncated", "probe_dns_query_succeeded 1.0"),
            ("dns", "not_dns", "probe_dns_query_succeeded 0.0"),
        ] {
            assert!(of(probe, reason).iter().any(|told| told == line), "{probe} {reason}");
        }
    }

    #[test]
    fn dns_tells_its_records() {
        let samples = [("answers", 2.0), ("records", 4.0), ("authorities", 1.0), ("additionals", 3.0)];
        assert_told(
            &look("dns", &[("answer", 0.5)], &samples, &[]),
            &[
                "probe_dns_duration_seconds{phase=\"resolve\"} 0.0",
                "probe_dns_duration_seconds{phase=\"connect\"} 0.0",
                "probe_dns_duration_seconds{phase=\"request\"} 0.5",
                "probe_dns_query_succeeded 1.0",
                "probe_dns_answer_rrs 4.0",
                "probe_dns_authority_rrs 1.0",
                "probe_dns_additional_rrs 3.0",
            ],
        );
        let silent = told(&LookView { outcome: "down".to_owned(), ..look("dns", &[], &[], &[]) });
        assert!(silent.iter().any(|line| line == "probe_dns_query_succeeded 0.0"), "{silent:?}");
    }

    #[test]
    fn a_probe_of_a_user_has_the_series_that_its_facts_name_and_all_by_its_own_names() {
        let found = look("my-probe", &[("ask", 0.125)], &[("queue", 7.0)], &[("certificate_expires", "garbage")]);
        assert_told(&found, &[]);
        let found = look("my-probe", &[], &[], &[("certificate_expires", "1970-01-01T00:01:00Z")]);
        assert_told(&found, &["probe_ssl_earliest_cert_expiry 60.0"]);
        let found = look("my-probe", &[("ask", 0.125)], &[("queue", 7.0)], &[("leader", "b\"1")]);
        let mut series = Series(Registry::default());
        series.add(&found, None);
        series.add_facts(&found);
        let mut text = String::new();
        encode(&mut text, &series.0).unwrap();
        for line in [
            "vouch_probe_phase_seconds{phase=\"ask\"} 0.125",
            "vouch_probe_sample{sample=\"queue\",unit=\"x\"} 7.0",
            "vouch_probe_fact{fact=\"leader\",value=\"b\\\"1\"} 1.0",
        ] {
            assert!(text.lines().any(|told| told == line), "{line} in {text}");
        }
        assert!(!text.contains("probe_ip_"), "{text}");
    }
}
