//! Snapshots of what people see: help, usage errors, reports, tables, and a verdict in words. The documents are fixed,
//! so a change here is a change of the words and nothing else.

use std::collections::BTreeMap;

use clap::{CommandFactory, Parser};
use vouch_manager::api::view::{
    AdviceView, CauseView, ClusterView, EventView, EvidenceView, FaultView, HeardView, MemberView, NodeRemovedView,
    NodeView, ProbeView, ReasonView, StateComparedView, StateHashView, VmView, WatcherView,
};

use crate::args::Cli;
use crate::commands;
use crate::exit::{CliError, Exit};
use crate::output::{Paint, age};
use crate::tell;

use fixtures::{at, evidence, fault, healthy};

#[test]
fn the_help_names_every_command_and_exit_code() {
    Cli::command().debug_assert();
    insta::assert_snapshot!("help", Cli::command().term_width(100).render_long_help());
    let mut command = Cli::command().term_width(100);
    command.build();
    for group in ["vm", "dev", "pki", "node", "incident", "trace", "policy", "maintenance", "cluster", "debug"] {
        let help = command.find_subcommand_mut(group).unwrap().render_long_help();
        insta::assert_snapshot!(format!("help_{group}"), help);
    }
    let probe = command.find_subcommand_mut("probe").unwrap();
    insta::assert_snapshot!("help_probe", probe.render_long_help());
    for verb in [
        "check",
        "run",
        "new",
        "build",
        "bench",
        "show",
        "push",
        "grant",
        "assign",
        "rollout",
        "keygen",
        "sign",
        "key",
        "require-signature",
    ] {
        insta::assert_snapshot!(
            format!("help_probe_{verb}"),
            probe.find_subcommand_mut(verb).unwrap().render_long_help()
        );
    }
}

#[test]
fn a_wrong_command_line_is_told_by_its_field_and_ends_with_2() {
    let mut all = String::new();
    for line in [
        "vouch",
        "vouch vm",
        "vouch vm shwo desk-1",
        "vouch vm show",
        "vouch vm ls -o yaml",
        "vouch manager",
        "vouch node",
        "vouch node --config a.toml ls",
        "vouch pki issue dir --role king --id m1",
        "vouch pki issue dir --role manager --id m1 --days 3",
        "vouch event ls --vm desk-1",
        "vouch incident show 3",
        "vouch trace",
        "vouch trace desk-1 --since yesterday",
        "vouch policy show",
        "vouch policy set cluster",
        "vouch policy set gold --silence-failures 9",
        "vouch policy set cluster --probe-interval 5",
        "vouch maintenance begin node:n1 --for 2h",
        "vouch maintenance end 1",
        "vouch node fence-proof n1",
        "vouch node fence-proof n1 --kind unplugged",
        "vouch node fence-proof n1 --kind fenced --withdraw",
        "vouch vm forget-pins",
        "vouch cluster backup",
        "vouch cluster restore b",
        "vouch debug bundle",
        "vouch probe check",
        "vouch probe new My_Probe",
        "vouch probe show My_Probe",
        "vouch probe bench a.wasm --fake tcp:accept --concurrency 65",
        "vouch probe new ssh --lang cobol",
        "vouch probe run a.wasm",
        "vouch probe run a.wasm --target desk-1",
        "vouch probe run a.wasm --fake rdp:maybe",
        "vouch probe run a.wasm --target 127.0.0.1 --fake rdp:ok",
        "vouch probe run a.wasm --target 127.0.0.1 --port 0",
        "vouch probe run a.wasm --target 127.0.0.1 --timeout 2",
        "vouch probe assign ssh",
        "vouch probe assign ssh --tag pool=gold --node n1",
        "vouch probe assign ssh --all --remove --interval 5s",
        "vouch probe assign ssh --all --interval 5",
        "vouch probe push a.wasm --runs 30",
        "vouch probe push a.wasm --rollout --runs 4",
        "vouch probe rollout ssh --promote --abort",
    ] {
        let e = Cli::try_parse_from(line.split(' ')).expect_err(line);
        assert_eq!(e.exit_code(), 2, "{line}");
        let text = e.render().to_string();
        // Help that stands for a missing subcommand is covered by its own snapshot.
        let text = text.lines().take(if text.starts_with("error") { 6 } else { 1 }).collect::<Vec<_>>().join("\n");
        all.push_str(&format!("$ {line}\n{}\n\n", text.trim_end()));
    }
    insta::assert_snapshot!("usage_errors", all);
}

#[test]
fn a_failed_start_prints_its_whole_chain_once() {
    let source = std::io::Error::other("address in use");
    let error = anyhow::Error::new(source).context("api.listen 127.0.0.1:7080: cannot be bound").context("manager m1");
    let error = CliError::new(Exit::Failed, error);
    insta::assert_snapshot!(error.render(), @r"
    vouch: manager m1
      because: api.listen 127.0.0.1:7080: cannot be bound
      because: address in use
    ");
    let codes = [Exit::Ok, Exit::Failed, Exit::Usage, Exit::NotFound, Exit::Unavailable, Exit::Denied];
    assert_eq!(codes.map(Exit::code), [0, 1, 2, 3, 4, 5]);
    assert_eq!([Exit::Storage, Exit::Config].map(Exit::code), [74, 78]);
}

#[test]
fn a_verdict_is_told_as_a_person_would() {
    insta::assert_snapshot!("vm_show_direct", tell::verdict(&healthy(), None, Paint::Plain));
    let cut = VmView {
        state: "degraded".to_owned(),
        source: "watcher".to_owned(),
        source_since: at(90_000),
        faults: vec![fault("manager_node_path", ""), fault("service(rdp)", "closed")],
        shared_faults: 1,
        notes: vec![fault("guest_agent", "silent")],
        coverage: vec![ReasonView::new("no_watcher_elsewhere", "no live watcher on a node other than n1")],
        ..healthy()
    };
    insta::assert_snapshot!("vm_show_cut", tell::verdict(&cut, Some(&evidence()), Paint::Plain));
    let lost = VmView {
        state: "lost".to_owned(),
        source: "watcher".to_owned(),
        faults: vec![FaultView {
            causes: vec![
                CauseView { cause: "node".to_owned(), score: 50 },
                CauseView { cause: "node_isolated".to_owned(), score: 50 },
            ],
            ..fault("node", "")
        }],
        shared_faults: 1,
        advice: AdviceView {
            proof_index: None,
            valid_for_ms: None,
            action: "fence_first".to_owned(),
            generation: Some(1),
            proof: None,
        },
        reason: "silent on every path".to_owned(),
        watchers: Vec::new(),
        ..healthy()
    };
    insta::assert_snapshot!("vm_show_lost", tell::verdict(&lost, Some(&EvidenceView::default()), Paint::Plain));
}

#[test]
fn colours_change_nothing_but_the_colour() {
    let plain = tell::verdict(&healthy(), Some(&evidence()), Paint::Plain);
    let coloured = tell::verdict(&healthy(), Some(&evidence()), Paint::Colour);
    assert!(coloured.contains("\x1b[32mup\x1b[0m"));
    let mut stripped = String::new();
    let mut parts = coloured.split("\x1b[");
    stripped.push_str(parts.next().unwrap_or_default());
    for part in parts {
        stripped.push_str(part.split_once('m').unwrap().1);
    }
    assert_eq!(stripped, plain);
}

#[test]
fn tables_are_as_they_were() {
    let cut = VmView {
        name: "a-much-longer-name".to_owned(),
        source: "watcher".to_owned(),
        faults: vec![fault("manager_node_path", ""), fault("service(rdp)", "closed")],
        ..healthy()
    };
    insta::assert_snapshot!("vm_ls", commands::vm::list(&[healthy(), cut], Paint::Plain));

    let heard = |manager: &str, stream: &str| HeardView {
        manager: manager.to_owned(),
        peer: "n1".to_owned(),
        stream: stream.to_owned(),
        networks: vec!["management".to_owned()],
        age_ms: Some(420),
    };
    let node = NodeView {
        id: "n1".to_owned(),
        rack: None,
        driver: "qemu".to_owned(),
        relay: "10.1.0.11:7002".to_owned(),
        boot: "00000000-0000-4000-8000-000000000009".to_owned(),
        fence: None,
        source: "direct".to_owned(),
        since: at(0),
        faults: Vec::new(),
        vms: BTreeMap::from([("up".to_owned(), 2), ("down".to_owned(), 1)]),
        watchers: vec!["w1".to_owned()],
        heard: vec![heard("m1", "open"), heard("m2", "reset")],
        deaf_managers: vec!["m2".to_owned()],
    };
    insta::assert_snapshot!("node_ls", commands::node::tell(&[node], Paint::Plain));

    let watcher = WatcherView {
        id: "w1".to_owned(),
        node: "n1".to_owned(),
        life: "live".to_owned(),
        placed: 8,
        incarnation: Some(1),
        vms: vec!["x".to_owned(), "y".to_owned()],
        assignment: 2,
        heard: vec![heard("m1", "open")],
    };
    insta::assert_snapshot!("watcher_ls", commands::watcher::tell(&[watcher], Paint::Plain));

    let probe = ProbeView {
        name: "rdp".to_owned(),
        version: "0.1.0".to_owned(),
        digest: "cd".repeat(32),
        size: 203_557,
        imports: vec!["vouch:probe/types@0.1.0".to_owned(), "wasi:sockets/tcp@0.2.6".to_owned()],
        shipped: true,
        grant: Some(vouch_manager::api::view::ProbeGrantView {
            interfaces: vec!["sockets".to_owned()],
            networks: vec!["management".to_owned(), "service".to_owned()],
            ports: vec!["settings".to_owned()],
        }),
        signer: None,
        description: None,
        rollout: None,
    };
    let described = vouch_probe_kit::Described {
        name: probe.name.clone(),
        version: probe.version.clone(),
        summary: "The remote desktop negotiates.".to_owned(),
        ports: vec![3389],
        networks: vec!["management", "service"],
        interval_ms: Some(1000),
        timeout_ms: Some(500),
        settings_schema: None,
        settings: vec![vouch_probe_kit::Setting {
            name: "port".to_owned(),
            rule: "integer from 1 to 65535".to_owned(),
            default: Some("3389".to_owned()),
            required: false,
            description: "Where it listens.".to_owned(),
        }],
        about: vec![("author".to_owned(), "vouch".to_owned())],
    };
    let scoped = vouch_manager::api::view::ScopedProbeView {
        scope: "tag:pool=gold".to_owned(),
        probe: "rdp".to_owned(),
        network: "service".to_owned(),
        settings: serde_json::json!({"port": 3390}),
        interval_ms: Some(500),
        timeout_ms: None,
        by: "admin token of m1".to_owned(),
        version: 42,
        vms: 3,
        vms_running: 1,
    };
    let run = |vm: &str, scope: Option<&str>| commands::probe::show::AssignedVm {
        vm: vm.to_owned(),
        network: "service".to_owned(),
        settings: "{}".to_owned(),
        scope: scope.map(ToOwned::to_owned),
    };
    let assigned = [run("desk-1", None), run("desk-2", Some("tag:pool=gold"))];
    let shown = commands::probe::show::Shown {
        probes: std::slice::from_ref(&probe),
        described: Some(&described),
        assigned: &assigned,
        scopes: std::slice::from_ref(&scoped),
    };
    insta::assert_snapshot!("probe_show", commands::probe::show::tell(&shown));
    let judged = [
        commands::probe::assign::JudgedBy::Component,
        commands::probe::assign::JudgedBy::Schema,
        commands::probe::assign::JudgedBy::Nothing,
    ];
    let told = judged.map(|judged| commands::probe::assign::tell(&scoped, judged));
    insta::assert_snapshot!("probe_assign", told.join("\n"));
    let tally = |faults, runs| vouch_manager::api::view::TallyView { runs, faults };
    let rollout = vouch_manager::api::view::ProbeRolloutView {
        version: "0.2.0".to_owned(),
        digest: "ef".repeat(32),
        canary: Some("w3".to_owned()),
        new: tally(1, 21),
        before: tally(0, 4),
        others: tally(3, 160),
        spent_ms: 20_000,
        runs_wanted: 30,
        lasts_ms: 60_000,
        tried: vec!["w2".to_owned(), "w3".to_owned()],
        by: "admin token of m1".to_owned(),
        begun: at(0),
    };
    let waiting = vouch_manager::api::view::ProbeRolloutView { canary: None, tried: Vec::new(), ..rollout.clone() };
    let rolling = |rollout| commands::probe::rollout::tell(&ProbeView { rollout, ..probe.clone() });
    insta::assert_snapshot!("probe_rollout", [Some(rollout), Some(waiting), None].map(rolling).join("\n"));
    let grant = vouch_manager::api::view::ProbeGrantView {
        interfaces: vec!["icmp".to_owned(), "sockets".to_owned()],
        networks: vec!["service".to_owned()],
        ports: vec!["22".to_owned(), "8443".to_owned()],
    };
    let signer = vouch_manager::api::view::ProbeSignerView { key: "release".to_owned(), public_key: "ef".repeat(32) };
    let uploaded =
        ProbeView { name: "ssh".to_owned(), shipped: false, grant: Some(grant), signer: Some(signer), ..probe.clone() };
    let old = ProbeView { name: "old".to_owned(), grant: None, signer: None, ..uploaded.clone() };
    let key = |name: &str, signed: &[&str]| vouch_manager::api::view::ProbeKeyView {
        name: name.to_owned(),
        public_key: "ef".repeat(32),
        added: at(0),
        by: "admin token of m1".to_owned(),
        signed: signed.iter().map(|s| (*s).to_owned()).collect(),
    };
    let trust = vouch_manager::api::view::ProbeTrustView { signatures: "required".to_owned(), keys: Vec::new() };
    let keys = [key("release", &["ssh"]), key("spare", &[])];
    insta::assert_snapshot!("probe_key_ls", commands::probe::key::tell(&trust, &keys));
    let removed: String = keys.iter().map(commands::probe::key::tell_removed).collect();
    insta::assert_snapshot!("probe_key_rm", removed);
    let left = |n: u32| vouch_manager::api::view::VmLeftView {
        id: format!("6f1c2a9e-0000-4000-8000-{n:012}"),
        name: format!("desk-{n}"),
        state: "lost".to_owned(),
    };
    let gone =
        NodeRemovedView { id: "n3".to_owned(), log_index: 42, vms: 4, watchers: 1, forgotten: 0, named: Vec::new() };
    let forgotten = NodeRemovedView { forgotten: 3, named: vec![left(1), left(2)], ..gone.clone() };
    let removed: String = [gone, forgotten].iter().map(commands::node::tell_removed).collect();
    insta::assert_snapshot!("node_rm", removed);
    insta::assert_snapshot!("probe_push", commands::probe::push::tell(&uploaded));
    insta::assert_snapshot!("probe_ls", commands::probe::tell(&[probe, uploaded, old]));

    let cluster = ClusterView {
        id: Some("00000000-0000-4000-8000-000000000007".to_owned()),
        manager: "m2".to_owned(),
        role: "follower".to_owned(),
        leader: Some("m1".to_owned()),
        term: 3,
        applied: 42,
        members: (1..=2)
            .map(|i| MemberView {
                id: format!("m{i}"),
                voter: true,
                addresses: BTreeMap::from([("management".to_owned(), format!("10.1.0.{i}:7001"))]),
                api: None,
            })
            .collect(),
        notes: vec![ReasonView::new("manager_deaf", "m2 cannot hear node n1, which other managers hear")],
        state: StateHashView {
            log_index: Some(64),
            hash: Some("0b".to_owned()),
            compared: [("m1", false), ("m3", true)]
                .map(|(id, same)| (id.to_owned(), StateComparedView { log_index: 64, hash: "0c".to_owned(), same }))
                .into(),
        },
    };
    insta::assert_snapshot!("cluster_status", commands::cluster::tell(&cluster, Paint::Plain));
    let none = ClusterView {
        id: None,
        leader: None,
        members: Vec::new(),
        notes: Vec::new(),
        state: StateHashView::default(),
        ..cluster
    };
    insta::assert_snapshot!("cluster_status_none", commands::cluster::tell(&none, Paint::Plain));

    let event = EventView {
        id: "42.0".to_owned(),
        index: 42,
        ordinal: 0,
        at: at(0),
        kind: "path_recovered".to_owned(),
        vm: None,
        node: Some("n1".to_owned()),
        text: "node n1: its own word rules again".to_owned(),
        notify: false,
        detail: serde_json::Value::Null,
    };
    insta::assert_snapshot!(commands::event::line(&event), @"2026-11-22T21:36:47.042Z      42.0  node n1: its own word rules again");
}

#[test]
fn ages_are_told_in_the_unit_that_fits() {
    let told = [0, 1_230, 9_999, 10_000, 119_999, 120_000, 7_200_000].map(age);
    assert_eq!(told, ["0.0 s", "1.2 s", "9.9 s", "10 s", "119 s", "2 min", "2 h"]);
}

mod bad_input;
mod fixtures;
mod operating;
