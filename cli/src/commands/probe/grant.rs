//! What a probe is granted, on the command line: read from its flags, compared with a component, told.

use hyper::Method;
use vouch_manager::api::view::{ProbeGrantRequest, ProbeGrantView, ProbeView};
use vouch_probe_kit::CheckReport;
use vouch_types::probe_grant::{PORTS_OF_SETTINGS, words as words_of};
use vouch_types::{Network, ProbeGrant, ProbeImports, ProbeInterface, ProbeName};

use crate::args::{Global, ProbeGrantArgs};
use crate::client::Client;
use crate::exit::{CliError, Exit};
use crate::output::Output;

/// Grants an uploaded probe something else.
///
/// # Errors
/// Flags that name no grant, or what the managers said.
pub fn run(global: &Global, name: &ProbeName, args: &ProbeGrantArgs) -> Result<(), CliError> {
    let grant = read(args)?.ok_or_else(|| {
        let text = format!("probe grant {name}: what is granted must be named: --grant, --network, --port");
        CliError::text(Exit::Usage, text)
    })?;
    let path = format!("/v1/probes/{name}/grant");
    let probe: ProbeView = Client::new(global)?.tell(Method::PUT, &path, &ProbeGrantRequest::from(&grant))?;
    Output::new(global).show(&probe, |_| format!("probe {} is granted {}\n", probe.name, words(&probe)))
}

/// Returns the grant that the flags name, if they name any.
///
/// # Errors
/// A word that is none, with the flag and its rule.
pub(super) fn read(args: &ProbeGrantArgs) -> Result<Option<ProbeGrant>, CliError> {
    let ProbeGrantArgs { interfaces, networks, ports } = args;
    if interfaces.is_empty() && networks.is_empty() && ports.is_empty() {
        return Ok(None);
    }
    let grant = ProbeGrant::parse(interfaces, networks, ports).map_err(|e| {
        let flag = match e.field {
            "interfaces" => "--grant",
            "networks" => "--network",
            _ => "--port",
        };
        let value = if e.value.is_empty() { String::new() } else { format!(" {}", e.value) };
        CliError::text(Exit::Usage, format!("{flag}{value}: {}", e.rule))
    })?;
    Ok(Some(grant))
}

/// What a component imports that has to be granted, and the networks and ports that it describes.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Wanted {
    /// Imports.
    pub interfaces: Vec<ProbeInterface>,
    /// Networks.
    pub networks: Vec<Network>,
    /// Ports; none are those of its settings.
    pub ports: Vec<u16>,
}

impl Wanted {
    /// Returns what a component wants, by what was found out about it.
    pub fn of(report: &CheckReport) -> Self {
        let imports = ProbeImports { interfaces: report.imports.clone() };
        let described = report.described.as_ref();
        let networks = described.map(|said| said.networks.iter().filter_map(|word| word.parse().ok()).collect());
        Self {
            interfaces: imports.needs().into_iter().collect(),
            networks: networks.unwrap_or_default(),
            ports: described.map(|said| said.ports.clone()).unwrap_or_default(),
        }
    }

    fn has_ports(&self) -> bool {
        self.interfaces.iter().any(|interface| interface.has_ports())
    }

    /// Returns the flags that grant all of it, its ports being those of its settings.
    pub fn flags(&self) -> String {
        let list = |items: Vec<String>| items.join(",");
        let mut flags = String::new();
        if !self.interfaces.is_empty() {
            flags += &format!(" --grant {}", list(self.interfaces.iter().map(ToString::to_string).collect()));
        }
        flags += &format!(" --network {}", list(self.networks.iter().map(ToString::to_string).collect()));
        if self.has_ports() {
            flags += &format!(" --port {PORTS_OF_SETTINGS}");
        }
        flags
    }

    /// Returns what of it a grant leaves out, a line each with both lists; and whether an import is among it.
    pub fn beyond(&self, grant: &ProbeGrant) -> (Vec<String>, bool) {
        let line = |what: &str, wants: String, granted: String, missing: String| {
            format!("{what}: {wants}; granted: {granted}; not granted: {missing}")
        };
        let all = |list: Vec<String>| if list.is_empty() { "none".to_owned() } else { list.join(", ") };
        let mut lines = Vec::new();
        let needs = self.interfaces.iter().copied().collect();
        let missing = grant.missing(&needs);
        let lacks_import = !missing.is_empty();
        let [interfaces, networks, ports] = grant.words();
        if lacks_import {
            lines.push(line("it imports", all(words_of(&needs)), all(interfaces), all(words_of(&missing))));
        }
        let missing = grant.missing_networks(&self.networks);
        if !missing.is_empty() {
            let wants = self.networks.iter().map(ToString::to_string).collect();
            lines.push(line("networks that it describes", all(wants), all(networks), all(words_of(&missing))));
        }
        let missing = grant.missing_ports(&self.ports);
        if self.has_ports() && !missing.is_empty() {
            let wants = self.ports.iter().map(ToString::to_string).collect();
            lines.push(line("ports that it describes", all(wants), all(ports), all(words_of(&missing))));
        }
        (lines, lacks_import)
    }
}

/// Returns what a probe of the cluster is granted, in one line.
pub fn words(probe: &ProbeView) -> String {
    let Some(ProbeGrantView { interfaces, networks, ports }) = &probe.grant else {
        return "all that it imports (recorded before grants)".to_owned();
    };
    match ProbeGrant::parse(interfaces, networks, ports) {
        Ok(grant) => grant.to_string(),
        // A word of a later version: as it came.
        Err(_) => format!("{}; networks {}; ports {}", interfaces.join(", "), networks.join(", "), ports.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wanted() -> Wanted {
        let interfaces = vec![ProbeInterface::Sockets, ProbeInterface::Tls];
        Wanted { interfaces, networks: vec![Network::Service], ports: vec![22] }
    }

    #[test]
    fn the_flags_that_are_told_grant_all_that_is_wanted() {
        assert_eq!(wanted().flags(), " --grant sockets,tls --network service --port settings");
        let grant = ProbeGrant::parse(&["sockets", "tls"], &["service"], &["settings"]).unwrap();
        assert_eq!(wanted().beyond(&grant), (Vec::new(), false));
        let quiet = Wanted { interfaces: Vec::new(), networks: Network::ALL.into(), ports: Vec::new() };
        assert_eq!(quiet.flags(), " --network management,service");
    }

    #[test]
    fn what_a_grant_leaves_out_is_told_with_both_lists() {
        let grant = ProbeGrant::parse(&["icmp", "tls"], &["management"], &["8443"]).unwrap();
        let (lines, lacks_import) = wanted().beyond(&grant);
        assert!(lacks_import);
        assert_eq!(
            lines,
            [
                "it imports: sockets, tls; granted: icmp, tls; not granted: sockets",
                "networks that it describes: service; granted: management; not granted: service",
                "ports that it describes: 22; granted: 8443; not granted: 22",
            ]
        );
    }

    #[test]
    fn a_wrong_flag_is_named_with_its_rule() {
        let read = |interfaces: &str, network: &str, port: &str| {
            let list = |text: &str| if text.is_empty() { Vec::new() } else { vec![text.to_owned()] };
            let args = ProbeGrantArgs { interfaces: list(interfaces), networks: list(network), ports: list(port) };
            read(&args).map_err(|e| e.render())
        };
        assert_eq!(read("", "", "").unwrap(), None);
        for (interfaces, network, port, said) in [
            ("http", "service", "", "--grant http: must be sockets, icmp, guest-agent or tls"),
            ("icmp", "lan", "", "--network lan: must be management or service"),
            ("icmp", "", "", "--network: must be at least one of management and service"),
            ("tls", "service", "", "--port: must name a port for tls, or be settings"),
            ("tls", "service", "0", "--port 0: must be a number from 1 to 65535"),
        ] {
            let wrong = read(interfaces, network, port).unwrap_err();
            assert!(wrong.contains(said), "{wrong} is not {said}");
        }
    }
}
