//! A verdict in words, as a person would tell it: what is known, from whom, over which network, what is cut, since
//! when, and what to do.
//!
//! Pure: documents of the API in, text out.

mod check;
pub mod why;

pub use check::check;

use vouch_manager::api::view::{EvidenceView, FaultView, ObservationView, RelayView, VmView};

use crate::output::{Paint, age};

/// Returns a VM's verdict in words.
pub fn verdict(vm: &VmView, evidence: Option<&EvidenceView>, paint: Paint) -> String {
    let mut text = format!("{}\n\n", headline(vm, paint));
    let mut field = |name: &str, value: &str| {
        text.push_str(&format!("  {name:<10} {value}\n"));
    };
    field("vm", &format!("{} ({})", vm.name, vm.id));
    field("node", &format!("{}, generation {}", vm.node, vm.generation));
    field("state", &format!("{} since {}", paint.state(&vm.state), vm.since.rfc3339));
    field("source", &format!("{} since {}", paint.state(&vm.source), vm.source_since.rfc3339));
    if !vm.reason.is_empty() {
        field("reason", &vm.reason);
    }
    let shared = usize::try_from(vm.shared_faults).unwrap_or(usize::MAX).min(vm.faults.len());
    for (i, fault) in vm.faults.iter().enumerate() {
        let what = if i < shared { "cut" } else { "broken" };
        field(what, &describe(fault, vm, paint));
    }
    for note in &vm.notes {
        field("note", &describe(note, vm, Paint::Plain));
    }
    if !vm.suppressed.is_empty() {
        field("suppressed", &format!("{}: nothing is said against it meanwhile", vm.suppressed));
    }
    if !vm.incidents.is_empty() {
        field("incidents", &vm.incidents.join(", "));
    }
    field("advice", &advice(vm));
    for warning in &vm.coverage {
        field("coverage", &warning.message);
    }
    match evidence {
        Some(evidence) => {
            text.push('\n');
            text.push_str(&self::evidence(evidence, paint));
        }
        None => text.push_str("\nThe leader cannot be asked for its evidence now; this is what is recorded.\n"),
    }
    text
}

fn headline(vm: &VmView, paint: Paint) -> String {
    let state = paint.state(&vm.state);
    let known = match vm.source.as_str() {
        "watcher" => {
            let live: Vec<&str> = vm.watchers.iter().filter(|w| w.life == "live").map(|w| w.id.as_str()).collect();
            let who = if live.is_empty() {
                "what was last recorded".to_owned()
            } else {
                format!("watchers {}", live.join(" and "))
            };
            let own = vm.faults.iter().skip(usize::try_from(vm.shared_faults).unwrap_or(usize::MAX));
            if own.into_iter().any(|fault| ["node_vm_path", "hypervisor"].contains(&fault.cause.as_str())) {
                format!("Its node {} cannot see it itself: this is known from {who}", vm.node)
            } else {
                format!("No manager hears node {}: this is known from {who}", vm.node)
            }
        }
        _ => format!("Its node {} says so itself", vm.node),
    };
    paint.bold(&format!("{} is {state}.", vm.name)) + " " + &known + "."
}

/// Returns what a cause means for a VM on this node.
fn meaning(cause: &str, node: &str) -> String {
    let (word, of) = cause.split_once('(').map_or((cause, ""), |(word, rest)| (word, rest.trim_end_matches(')')));
    match word {
        "manager_node_path" => format!("the path between the managers and the agent of node {node}; the node works"),
        "node_uplink" => format!("the uplink of node {node} to the {of} network"),
        "node_vm_path" => format!("the path between the agent of node {node} and the VM's monitor"),
        "node_agent" => format!("the agent of node {node}"),
        "hypervisor" => format!("the hypervisor service of node {node}"),
        "node" => format!("node {node} itself"),
        "node_isolated" => format!("node {node} is cut from every network"),
        "rack" => format!("the rack of node {node}"),
        "vm_process" => format!("the VM's process on node {node}"),
        "guest_os" => "the guest's operating system".to_owned(),
        "guest_agent" => "the agent inside the guest".to_owned(),
        "vm_nic" => "the VM's network card or port".to_owned(),
        "service" => format!("the service {of} inside the guest"),
        "storage" => "the VM's storage".to_owned(),
        "network" => format!("the {of} network"),
        "one_way" => format!("one direction of a path ({of})"),
        "lossy_path" => "a path that loses packets".to_owned(),
        "watcher" => "a watcher".to_owned(),
        "manager" => "a manager".to_owned(),
        _ => "unknown to this version of vouch".to_owned(),
    }
}

fn describe(fault: &FaultView, vm: &VmView, paint: Paint) -> String {
    let detail = if fault.detail.is_empty() { String::new() } else { format!(" {}", fault.detail) };
    let mut text = format!("{}{detail}: {}", paint.broken(&fault.cause), meaning(&fault.cause, &vm.node));
    if let Some((first, others)) = fault.causes.split_first()
        && !others.is_empty()
    {
        let others: Vec<String> = others.iter().map(|c| format!("{} {} %", c.cause, c.score)).collect();
        text.push_str(&format!(" ({} %; or {})", first.score, others.join(", ")));
    }
    text
}

fn advice(vm: &VmView) -> String {
    let generation = vm.advice.generation.map(|g| format!(" (generation {g})")).unwrap_or_default();
    match vm.advice.action.as_str() {
        "none" => "none: nothing is to be done about the VM".to_owned(),
        "restart" => format!("restart it in place: node {} proves it gone or hung{generation}", vm.node),
        "safe_to_restart" => {
            let proof = match (&vm.advice.proof, vm.advice.proof_index) {
                (Some(proof), Some(index)) => format!(", proof: {proof} at log index {index}"),
                (Some(proof), None) => format!(", proof: {proof}"),
                (None, _) => String::new(),
            };
            let valid = vm.advice.valid_for_ms.map(|ms| format!("; read again after {}", age(ms))).unwrap_or_default();
            format!("safe to restart elsewhere: it provably runs nowhere{generation}{proof}{valid}")
        }
        "fence_first" => {
            format!(
                "fence node {} before you start it elsewhere: nothing proves that it does not run{generation}",
                vm.node
            )
        }
        "blocked" => "do nothing: it executes twice, or an operation is under way".to_owned(),
        other => other.to_owned(),
    }
}

/// Returns evidence in words.
pub fn evidence(evidence: &EvidenceView, paint: Paint) -> String {
    if !evidence.live {
        return format!("Only the digest of the recorded evidence is known here: {}\n", evidence.digest);
    }
    let mut lines = Vec::new();
    for word in &evidence.node_words {
        lines.push(format!(
            "{} heard node {} itself: {}, {}",
            word.manager,
            word.node,
            paint.state(&word.state),
            when(word.age_ms, word.fresh)
        ));
    }
    for statement in &evidence.statements {
        lines.push(format!(
            "{} carried the signed word of node {}: {}, {}",
            statement.watcher,
            statement.node,
            paint.state(&statement.state),
            when(statement.age_ms, statement.fresh)
        ));
    }
    lines.extend(evidence.relays.iter().map(|relay| relay_line(relay, paint)));
    lines.extend(evidence.observations.iter().map(|observation| observation_line(observation, paint)));
    let mut text = format!("Evidence of {}{}:\n", evidence.manager, if evidence.leads { ", which leads" } else { "" });
    if lines.is_empty() {
        text.push_str("  nobody says anything\n");
    }
    for line in lines {
        text.push_str(&format!("  {line}\n"));
    }
    if !evidence.explanation.is_empty() {
        text.push_str("How the verdict follows:\n");
        for (i, step) in evidence.explanation.iter().enumerate() {
            text.push_str(&format!("  {}. {step}\n", i + 1));
        }
    }
    text
}

fn when(age_ms: u64, fresh: bool) -> String {
    format!("{} ago{}", age(age_ms), if fresh { "" } else { " (too old to count)" })
}

fn relay_line(relay: &RelayView, paint: Paint) -> String {
    let path = if relay.same_node { "over the local bridge" } else { "over the management network" };
    let outcome = match relay.outcome.as_str() {
        "reached" => "reached",
        "refused" => "refused: nothing listens there, the agent does not run",
        "stalled" => "stalled: the connection stands and no answer comes",
        "silent" => "silent: nothing comes back",
        "denied" => "denied: it turned the watcher away",
        other => other,
    };
    format!(
        "{} on {} asked the relay of node {} {path}: {}, {}",
        relay.watcher,
        relay.watcher_node,
        relay.node,
        paint.state(outcome),
        when(relay.age_ms, relay.fresh)
    )
}

fn observation_line(observation: &ObservationView, paint: Paint) -> String {
    let place = if observation.same_node { "the VM's own node" } else { "another node" };
    let reason = match (observation.reason.as_str(), observation.message.as_str()) {
        ("", "") => String::new(),
        (reason, "") | ("", reason) => format!(" ({reason})"),
        (reason, message) => format!(" ({reason}: {message})"),
    };
    let mut text = format!(
        "{} on {} ({place}) probed {} over the {} network: {}{reason}, {}",
        observation.watcher,
        observation.watcher_node,
        observation.probe,
        observation.network,
        paint.state(&observation.outcome),
        when(observation.age_ms, observation.fresh)
    );
    if !observation.proven {
        text.push_str("; never succeeded yet, so its failure does not count");
    }
    if !observation.healthy {
        text.push_str("; the watcher itself is not well");
    }
    text
}
