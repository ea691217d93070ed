//! What people see of incidents, reasons, stories, policies, maintenance and proofs; and that the page on operating
//! speaks of commands that exist.

use clap::{CommandFactory, Parser, ValueEnum};
use vouch_manager::api::view::{
    AdviceView, CauseView, EventView, ExplainView, FaultView, FenceProofView, IncidentDetailView, IncidentView,
    IncidentVmView, MaintenanceView, NodeView, PolicySettings, PolicyView, SettingView, VmPolicyView, VmView,
};

use super::{at, fault, healthy};
use crate::args::{Cli, Command, PolicyCommand};
use crate::commands;
use crate::output::Paint;
use crate::tell;

/// Splits a line as a shell does, as far as the page needs it.
fn words(line: &str) -> Vec<String> {
    let (mut words, mut quoted) = (vec![String::new()], false);
    for c in line.chars() {
        match c {
            '"' => quoted = !quoted,
            ' ' if !quoted => words.push(String::new()),
            c => words.last_mut().unwrap().push(c),
        }
    }
    words.retain(|word| !word.is_empty());
    words
}

#[test]
fn every_command_of_the_page_on_operating_can_be_typed() {
    let page = include_str!("../../../docs/operating.md");
    let blocks = page.split("```sh\n").skip(1).map(|block| block.split("```").next().unwrap());
    let lines: Vec<&str> = blocks.flat_map(str::lines).filter(|line| line.starts_with("vouch ")).collect();
    assert!(lines.len() > 15, "{lines:?}");
    for line in &lines {
        let command = line.split(" # ").next().unwrap();
        assert!(!command.contains('|') && !command.contains('['), "a line is one command: {line}");
        Cli::try_parse_from(words(command)).unwrap_or_else(|e| panic!("{line}\n{e}"));
    }
    for group in ["incident", "trace", "policy", "maintenance", "node fence-proof", "vm explain", "vm forget-pins"] {
        assert!(lines.iter().any(|line| line.starts_with(&format!("vouch {group}"))), "{group} is not on the page");
    }
    // Commands inside of sentences, in backticks.
    let inline = page.split('`').skip(1).step_by(2).filter(|text| text.starts_with("vouch "));
    for command in inline.filter(|text| !text.contains('\n')) {
        Cli::try_parse_from(words(command)).unwrap_or_else(|e| panic!("{command}\n{e}"));
    }
    for advice in ["none", "restart", "safe_to_restart", "fence_first", "blocked"] {
        assert!(page.contains(&format!("| `{advice}` |")), "{advice} is not on the page");
    }
}

#[test]
fn a_policy_is_sent_as_it_was_typed() {
    let line = "vouch policy set tag:pool=gold --probe-interval 5s --boot-budget 2m --required-probe rdp --required-probe ping";
    let Command::Policy(PolicyCommand::Set(args)) = Cli::try_parse_from(line.split(' ')).unwrap().command else {
        panic!("another command");
    };
    let expected = PolicySettings {
        probe_interval_ms: Some(5_000),
        boot_budget_ms: Some(120_000),
        required_probes: Some(vec!["rdp".to_owned(), "ping".to_owned()]),
        ..PolicySettings::default()
    };
    assert_eq!(commands::policy::settings(&args.settings), expected);
    assert_eq!(args.scope.to_string(), "tag:pool=gold");
}

fn incident() -> IncidentView {
    IncidentView {
        id: "i3".to_owned(),
        scope: "node n1".to_owned(),
        kind: "node".to_owned(),
        of: "n1".to_owned(),
        state: "open".to_owned(),
        fault: FaultView {
            causes: vec![
                CauseView { cause: "node".to_owned(), score: 60 },
                CauseView { cause: "node_isolated".to_owned(), score: 40 },
            ],
            ..fault("node", "")
        },
        vms_touched: 102,
        nodes_touched: 1,
        nodes: vec!["n1".to_owned()],
        reason: "silent on every path".to_owned(),
        opened: at(0),
        opened_index: 42,
        closed: None,
    }
}

fn event(text: &str, notify: bool) -> EventView {
    EventView {
        id: "42.0".to_owned(),
        index: 42,
        ordinal: 0,
        at: at(0),
        kind: "incident_opened".to_owned(),
        vm: None,
        node: None,
        text: text.to_owned(),
        notify,
        detail: serde_json::Value::Null,
    }
}

#[test]
fn incidents_and_stories_are_told_as_they_were() {
    let over = IncidentView {
        id: "i2".to_owned(),
        scope: "network service".to_owned(),
        fault: fault("network(service)", ""),
        closed: Some(at(60_000)),
        ..incident()
    };
    insta::assert_snapshot!("incident_ls", commands::incident::list(&[incident(), over], Paint::Plain));
    let vm = IncidentVmView {
        id: "6f1c2a9e-0000-4000-8000-000000000001".to_owned(),
        name: "desk-1".to_owned(),
        node: "n1".to_owned(),
        state: "lost".to_owned(),
    };
    let opened = event("incident i3 opened, node n1: node; 102 vms on 1 nodes; silent on every path", true);
    let detail =
        IncidentDetailView { incident: incident(), vms: vec![vm], vms_omitted: 101, events: vec![opened.clone()] };
    insta::assert_snapshot!("incident_show", commands::incident::tell(&detail, Paint::Plain));
    let story = [event("node n1: source direct -> watcher; broken: manager_node_path", false), opened];
    insta::assert_snapshot!("trace", commands::trace::tell(&story));
}

#[test]
fn why_a_verdict_is_what_it_is_is_told_in_words() {
    let why = ExplainView {
        vm: VmView { suppressed: "maintenance x1: new switch".to_owned(), ..healthy() },
        manager: "m1".to_owned(),
        live: true,
        digest: "ab".repeat(32),
        recorded_age_ms: None,
        state: "up".to_owned(),
        reason: "its node says that it runs".to_owned(),
        used: vec!["node n1 says running, 0.2 s ago, heard by m1".to_owned()],
        discounted: vec!["w2, ping over service: this probe has never succeeded for this vm".to_owned()],
        would_change: vec!["no word of node n1 for 1.5 s".to_owned(), "a failure of rdp, 6 times in a row".to_owned()],
        incidents: vec![incident()],
    };
    insta::assert_snapshot!("vm_explain", tell::why::explain(&why, Paint::Plain));
    let stale = ExplainView { live: false, recorded_age_ms: Some(1_200), incidents: Vec::new(), vm: healthy(), ..why };
    insta::assert_snapshot!("vm_explain_stale", tell::why::explain(&stale, Paint::Plain));
}

#[test]
fn what_is_held_back_and_what_may_be_done_is_told_of_a_vm() {
    let vm = VmView {
        state: "down".to_owned(),
        source: "watcher".to_owned(),
        suppressed: "maintenance x1: new switch".to_owned(),
        incidents: vec!["i3".to_owned()],
        advice: AdviceView {
            action: "safe_to_restart".to_owned(),
            generation: Some(2),
            proof: Some("power_off".to_owned()),
            proof_index: Some(77),
            valid_for_ms: Some(10_000),
        },
        ..healthy()
    };
    insta::assert_snapshot!("vm_show_safe", tell::verdict(&vm, None, Paint::Plain));
    let unseen =
        VmView { source: "watcher".to_owned(), faults: vec![fault("node_vm_path", "")], shared_faults: 0, ..healthy() };
    let told = tell::verdict(&unseen, None, Paint::Plain);
    assert!(told.contains("Its node n1 cannot see it itself: this is known from watchers w1 and w2."), "{told}");
}

#[test]
fn policies_and_windows_are_told_as_they_were() {
    let cluster = PolicyView {
        scope: "cluster".to_owned(),
        settings: PolicySettings {
            silence_failures: Some(9),
            boot_budget_ms: Some(90_000),
            ..PolicySettings::default()
        },
    };
    let gold = PolicyView {
        scope: "tag:pool=gold".to_owned(),
        settings: PolicySettings {
            probe_interval_ms: Some(500),
            required_probes: Some(vec!["rdp".to_owned(), "ping".to_owned()]),
            ..PolicySettings::default()
        },
    };
    insta::assert_snapshot!("policy_ls", commands::policy::list(&[cluster, gold]));
    let setting = |name: &str, value: serde_json::Value, from: &str| SettingView {
        name: name.to_owned(),
        value,
        from: from.to_owned(),
    };
    let resolved = VmPolicyView {
        vm: "6f1c2a9e-0000-4000-8000-000000000001".to_owned(),
        settings: vec![
            setting("probe_interval_ms", 500.into(), "tag:pool=gold"),
            setting("silence_failures", 6.into(), "default"),
            setting("required_probes", serde_json::Value::Null, "default"),
        ],
    };
    insta::assert_snapshot!("policy_show_vm", commands::policy::resolved(&resolved));
    let window = MaintenanceView {
        id: "x1".to_owned(),
        scope: "node:n1".to_owned(),
        reason: "new firmware".to_owned(),
        remaining_ms: 5_400_000,
        begun: at(0),
        vms: 40,
    };
    insta::assert_snapshot!("maintenance_ls", commands::maintenance::tell(&[window]));
}

#[test]
fn a_proof_is_told_with_the_boot_that_it_speaks_of() {
    let node = |fence| NodeView {
        id: "n1".to_owned(),
        rack: Some("r1".to_owned()),
        driver: "qemu".to_owned(),
        relay: "10.1.0.11:7002".to_owned(),
        boot: "00000000-0000-4000-8000-000000000009".to_owned(),
        fence,
        source: "watcher".to_owned(),
        since: at(0),
        faults: vec![fault("node", "")],
        vms: [("lost".to_owned(), 2)].into(),
        watchers: Vec::new(),
        heard: Vec::new(),
        deaf_managers: Vec::new(),
    };
    let proof = FenceProofView {
        kind: "power_off".to_owned(),
        boot: "00000000-0000-4000-8000-000000000009".to_owned(),
        note: String::new(),
        index: 77,
        at: at(0),
    };
    let proved = node(Some(proof));
    insta::assert_snapshot!(
        commands::node::proof(&proved)
            + &commands::node::proof(&node(None))
            + &commands::node::tell(&[proved], Paint::Plain)
    );
}

#[test]
fn completions_of_every_shell_know_every_group() {
    for shell in clap_complete::Shell::value_variants() {
        let mut script = Vec::new();
        clap_complete::generate(*shell, &mut Cli::command(), "vouch", &mut script);
        let script = String::from_utf8(script).unwrap();
        for word in ["incident", "trace", "policy", "maintenance", "fence-proof", "explain", "forget-pins", "withdraw"]
        {
            assert!(script.contains(word), "{shell}: {word}");
        }
    }
}
