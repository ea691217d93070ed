//! Joining by token as an operator does it, with the command line alone; a node that is removed and joins again; a
//! certificate that is renewed; and a cluster that is restored from a backup, and still knows who was removed.

#![expect(clippy::print_stdout, reason = "what was done when is what these tests are also run for")]

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Output;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use serde_json::{Value, json};
use vouch_tests::story::{LocalStage, Stage, VM_ONE};
use vouch_tests::wait;
use vouch_types::{ManagerId, WallTime};
use vouch_wire::pki::{CertificateAuthority, Identity, PeerIdentity, VALIDITY_MIN};

const LIMIT: Duration = Duration::from_secs(60);

fn on_local(test: &str, play: impl FnOnce(&mut LocalStage) -> Result<()>) {
    LocalStage::play(test, |text| println!("{text}"), play);
}

fn done(output: &Output, what: &str) -> Result<String> {
    if !output.status.success() {
        bail!("{what}: {}", String::from_utf8_lossy(&output.stderr));
    }
    Ok(String::from_utf8(output.stdout.clone())?)
}

/// Has the operator make a token, and returns it.
fn token(stage: &LocalStage, role: &str, name: &str) -> Result<String> {
    let made = stage.cli().args(["token", "create", "--role", role, "--name", name]).output()?;
    Ok(done(&made, "token create")?.trim().to_owned())
}

/// Runs `vouch join` on the new machine: it knows the token and the managers' addresses, and nothing else.
fn join(stage: &LocalStage, token: &str, role: &str, name: &str, folder: &Path) -> Result<Output> {
    let managers = [stage.management_of("m2")?, stage.management_of("m1")?].join(",");
    let mut command = std::process::Command::new(vouch_tests::paths::vouch()?);
    command.env("VOUCH_JOIN_TOKEN", token).args(["join", "--manager", &managers, "--role", role, "--name", name]);
    Ok(command.arg("--out").arg(folder).output()?)
}

fn refusal(output: &Output) -> Result<String> {
    ensure!(output.status.code() == Some(5), "it must be denied: {output:?}");
    Ok(String::from_utf8(output.stderr.clone())?)
}

fn files(folder: &Path) -> Result<Vec<String>> {
    let names = fs::read_dir(folder)?.map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()));
    let mut names = names.collect::<Result<Vec<_>>>()?;
    names.sort();
    Ok(names)
}

fn cluster(stage: &LocalStage, arguments: &[&str]) -> Result<()> {
    done(&stage.cli().arg("cluster").args(arguments).output()?, &arguments.join(" ")).map(drop)
}

fn has_vote(stage: &LocalStage, manager: &str) -> Result<bool> {
    let cluster = stage.read("/v1/cluster")?;
    let members = cluster.get("members").and_then(Value::as_array).context("members")?;
    let member = members.iter().find(|m| m.get("id").and_then(Value::as_str) == Some(manager));
    Ok(member.and_then(|m| m.get("voter")).and_then(Value::as_bool) == Some(true))
}

/// The manager m3 starts with a certificate in its second half, and gets another one for the same key.
fn an_aged_manager_is_renewed(stage: &mut LocalStage) -> Result<()> {
    let files = stage.pki();
    let (certificate, key, roots) = (files.join("m3.pem"), files.join("m3.key"), files.join("ca.pem"));
    let ca = CertificateAuthority::from_pem(&fs::read_to_string(&roots)?, &fs::read_to_string(files.join("ca.key"))?)?;
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH)?;
    let days_ago = |days: u64| since.saturating_sub(Duration::from_secs(days * 24 * 3600)).as_millis();
    // Made five days ago, for a week.
    let made = WallTime::from_unix_millis(u64::try_from(days_ago(5))?);
    let aged = ca.issue(&PeerIdentity::Manager(ManagerId::new(3)), made, VALIDITY_MIN)?;
    stage.stop_manager("m3")?;
    fs::write(&certificate, &aged.certificate_pem)?;
    fs::write(&key, &aged.key_pem)?;
    stage.start_manager("m3")?;
    let load = || Identity::load(&certificate, &key, &roots);
    let before = load()?;
    let renewed = wait::until_ok("the certificate of m3 is renewed", LIMIT, || {
        let now = load()?;
        ensure!(now.chain() != before.chain(), "it is the one of before");
        Ok::<_, anyhow::Error>(now)
    })?;
    println!("the certificate of m3 is renewed after {:?}", renewed.1);
    let now = WallTime::from_unix_millis(u64::try_from(days_ago(0))?);
    ensure!(renewed.0.validity()?.until > now && renewed.0.shown().key_digest()? == before.shown().key_digest()?);
    stage.must_run("m3")?;
    let own = stage.client_of("m3")?;
    wait::until_ok("m3 is ready", LIMIT, || own.read("/readyz")).map(drop).map_err(Into::into)
}

/// The node n3, whose VM is up, dies, is removed, comes back with its old certificate, and joins again.
fn a_removed_node_joins_again(stage: &mut LocalStage, old: &Path) -> Result<()> {
    let rm = |stage: &LocalStage, more: &[&str]| stage.cli().args(["node", "rm", "n3"]).args(more).output();
    let why = |output: &Output| String::from_utf8_lossy(&output.stderr).into_owned();
    let heard = rm(stage, &["--forget-vms"])?;
    ensure!(heard.status.code() == Some(1) && why(&heard).contains("is heard by"), "{heard:?}");
    let guest = stage.added_vm_pid()?;
    stage.kill_agent("n3")?;
    // Its guest lives on, and watchers see it: it stands in the way, and is named.
    let in_the_way = wait::until_ok("the VM of n3 stands in the way", LIMIT, || {
        let refused = rm(stage, &[])?;
        ensure!(why(&refused).contains("desk-9 ("), "{refused:?}");
        Ok::<_, anyhow::Error>(refused)
    })?;
    ensure!(in_the_way.0.status.code() == Some(1), "{:?}", in_the_way.0);
    let told = done(&rm(stage, &["--forget-vms"])?, "node rm")?;
    ensure!(told.contains("node n3 was removed, with 1 vms") && told.contains("desk-9 ("), "{told}");
    for path in ["/v1/nodes/n3", "/v1/vms/desk-9"] {
        ensure!(stage.read(path).is_err(), "{path} is gone");
    }
    ensure!(rm(stage, &[])?.status.code() == Some(3), "it is removed once");

    stage.start_agent("n3")?;
    let (code, said) = stage.await_end("n3", LIMIT)?;
    ensure!(code == Some(5), "{code:?}: {said}");
    let line = said.lines().find(|line| line.starts_with("vouch: ")).context("it says why")?;
    ensure!(line.contains("node n3 was removed") && line.contains("vouch join"), "{line}");
    ensure!(stage.added_vm_pid()? == guest, "its guest is the same process");
    ensure!(stage.read("/v1/nodes/n3").is_err(), "it is not recorded again");

    // Files of the same names, since its configuration stays: another key.
    let again = tempfile::tempdir()?;
    done(&join(stage, &token(stage, "node", "n3")?, "node", "n3", again.path())?, "join again")?;
    for name in ["n3.pem", "n3.key", "ca.pem"] {
        fs::copy(again.path().join(name), old.join(name))?;
    }
    stage.start_agent("n3")?;
    let seen = wait::until_ok("the VM of n3 is up again", LIMIT, || {
        let vm = stage.read("/v1/vms/desk-9")?;
        ensure!(vm.pointer("/state").and_then(Value::as_str) == Some("up"), "{vm}");
        Ok::<(), anyhow::Error>(())
    })?;
    println!("the VM of n3 is up again after {:?}", seen.1);
    ensure!(stage.added_vm_pid()? == guest, "and still the same process");
    let events = stage.read("/v1/events?format=json&node=n3")?.to_string();
    ensure!(events.contains("node n3 was removed with 1 vms"), "{events}");
    Ok(())
}

#[test]
fn a_manager_and_a_node_join_by_token_with_keys_of_their_own_and_a_spent_token_lets_nobody_in() {
    on_local("joining", |stage| {
        let (manager, node) = (tempfile::tempdir()?, tempfile::tempdir()?);
        let m4 = token(stage, "manager", "m4")?;
        let told = done(&join(stage, &m4, "manager", "m4", manager.path())?, "join")?;
        ensure!(told.contains("manager m4 joined"), "{told}");
        ensure!(files(manager.path())? == ["ca.pem", "m4.key", "m4.pem"], "{:?}", files(manager.path())?);
        let mode = fs::metadata(manager.path().join("m4.key"))?.permissions().mode() & 0o777;
        ensure!(mode == 0o600, "{mode:o}");
        let address = stage.start_newcomer_with("m4", manager.path())?;
        cluster(stage, &["add", "m4", "--management", &address])?;
        wait::until_ok("m4 can be given a vote", LIMIT, || cluster(stage, &["promote", "m4"]))?;
        ensure!(has_vote(stage, "m4")?, "m4 votes");
        stage.must_run("m4")?;

        let n3 = token(stage, "node", "n3")?;
        done(&join(stage, &n3, "node", "n3", node.path())?, "join")?;
        stage.start_new_node("n3", node.path())?;
        let seen = wait::until_ok("the new node's VM is up", LIMIT, || {
            let vm = stage.read("/v1/vms/desk-9")?;
            let (state, on) = (vm.pointer("/state"), vm.pointer("/node"));
            ensure!(state.and_then(Value::as_str) == Some("up") && on.and_then(Value::as_str) == Some("n3"), "{vm}");
            Ok::<(), anyhow::Error>(())
        })?;
        println!("the VM of n3 is up after {:?}", seen.1);
        a_removed_node_joins_again(stage, node.path())?;

        let other = tempfile::tempdir()?;
        let why = refusal(&join(stage, &n3, "node", "n3", other.path())?)?;
        ensure!(why.contains("used up"), "{why}");
        ensure!(files(other.path())?.is_empty(), "nothing is left behind: {:?}", files(other.path())?);
        let n5 = token(stage, "node", "n5")?;
        let why = refusal(&join(stage, &n5, "node", "n6", other.path())?)?;
        ensure!(why.contains("n5"), "it is for n5 alone: {why}");
        let tokens: Value =
            serde_json::from_str(&done(&stage.cli().args(["--output", "json", "token", "ls"]).output()?, "token ls")?)?;
        let last = tokens.as_array().and_then(|list| list.last()).and_then(|t| t.get("id")).and_then(Value::as_str);
        let revoked = stage.cli().args(["token", "revoke", last.context("an id")?]).output()?;
        done(&revoked, "token revoke")?;
        let why = refusal(&join(stage, &n5, "node", "n5", other.path())?)?;
        ensure!(why.contains("revoked"), "{why}");
        an_aged_manager_is_renewed(stage)
    });
}

#[test]
fn a_join_that_was_killed_or_got_no_answer_goes_on_with_its_key_and_takes_no_second_use() {
    on_local("joining-again", |stage| {
        let folder = tempfile::tempdir()?;
        let n3 = token(stage, "node", "n3")?;
        // Nobody answers: the key and the request stay, and it is said what to do.
        let nobody = std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?.to_string();
        let mut command = std::process::Command::new(vouch_tests::paths::vouch()?);
        command.env("VOUCH_JOIN_TOKEN", &n3).args(["join", "--manager", &nobody, "--role", "node", "--name", "n3"]);
        let failed = command.arg("--out").arg(folder.path()).output()?;
        ensure!(failed.status.code() == Some(4), "{failed:?}");
        let why = String::from_utf8(failed.stderr)?;
        ensure!(why.contains("n3.key") && why.contains("run the same command again"), "{why}");
        ensure!(files(folder.path())? == ["n3.csr", "n3.key"], "{:?}", files(folder.path())?);
        let key = fs::read(folder.path().join("n3.key"))?;
        let request = fs::read(folder.path().join("n3.csr"))?;
        done(&join(stage, &n3, "node", "n3", folder.path())?, "join")?;
        ensure!(fs::read(folder.path().join("n3.key"))? == key, "the key is the one of the first try");
        ensure!(files(folder.path())? == ["ca.pem", "n3.key", "n3.pem"], "{:?}", files(folder.path())?);

        // Killed before the certificate was on disk, though the manager had signed it: the same request is the same
        // use.
        fs::remove_file(folder.path().join("n3.pem"))?;
        fs::write(folder.path().join("n3.csr"), &request)?;
        let again = join(stage, &n3, "node", "n3", folder.path())?;
        done(&again, "join again")?;
        let told = String::from_utf8(again.stderr)?;
        ensure!(told.contains("going on with the key"), "{told}");
        ensure!(fs::read(folder.path().join("n3.key"))? == key, "still the same key");
        let tokens = stage.read("/v1/join-tokens")?;
        let uses = tokens.pointer("/items/0/uses").and_then(Value::as_u64);
        ensure!(uses == Some(1), "one use: {tokens}");

        // A key that cannot be used is named, with what to do.
        fs::remove_file(folder.path().join("n3.pem"))?;
        fs::write(folder.path().join("n3.key"), "half of a k")?;
        let damaged = join(stage, &n3, "node", "n3", folder.path())?;
        let why = String::from_utf8(damaged.stderr)?;
        ensure!(damaged.status.code() == Some(1) && why.contains("n3.key") && why.contains("remove it"), "{why}");
        Ok(())
    });
}

/// Restores the first manager from a file, while none runs.
fn restore(stage: &LocalStage, file: &Path) -> Result<Output> {
    let config = stage.config_file("m1");
    Ok(stage.cli().args(["cluster", "restore"]).arg(file).arg("--config").arg(config).output()?)
}

fn boot_budget(stage: &LocalStage, tag: &str) -> Result<Option<u64>> {
    let policies = stage.read("/v1/policies?consistency=consistent")?;
    let items = policies.get("items").and_then(Value::as_array).context("a list of policies")?;
    let scope = format!("tag:{tag}");
    let found = items.iter().find(|policy| policy.get("scope").and_then(Value::as_str) == Some(scope.as_str()));
    Ok(found.and_then(|policy| policy.pointer("/settings/boot_budget_ms")?.as_u64()))
}

#[test]
fn a_cluster_that_is_restored_knows_what_was_backed_up_and_whom_it_removed_before() {
    on_local("restored", |stage| {
        let (n3, kept) = (tempfile::tempdir()?, tempfile::tempdir()?);
        done(&join(stage, &token(stage, "node", "n3")?, "node", "n3", n3.path())?, "join")?;
        // It never spoke.
        let told = done(&stage.cli().args(["node", "rm", "n3"]).output()?, "node rm")?;
        ensure!(told.contains("node n3 was removed"), "{told}");
        let set = |stage: &LocalStage, tag: &str| -> Result<Value> {
            let path = format!("/v1/policies/tag:{tag}");
            stage.client_of(&stage.leader()?)?.put(&path, &json!({"boot_budget_ms": 61_000}))?.ok()
        };
        set(stage, "pool=before")?;
        let file = kept.path().join("vouch-monday");
        done(&stage.cli().args(["cluster", "backup"]).arg(&file).output()?, "backup")?;
        let mode = fs::metadata(&file)?.permissions().mode() & 0o777;
        ensure!(mode == 0o600, "it holds secrets: {mode:o}");
        set(stage, "pool=after")?;

        for manager in ["m1", "m2", "m3"] {
            stage.stop_manager(manager)?;
        }
        let refused = restore(stage, &file)?;
        let why = String::from_utf8(refused.stderr)?;
        ensure!(refused.status.code() == Some(1) && why.contains("/m1"), "it is full: {why}");
        for manager in ["m1", "m2", "m3"] {
            stage.empty_manager(manager)?;
        }
        let mut bytes = fs::read(&file)?;
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        let damaged = kept.path().join("damaged");
        fs::write(&damaged, bytes)?;
        let refused = restore(stage, &damaged)?;
        let why = String::from_utf8(refused.stderr)?;
        ensure!(refused.status.code() == Some(1) && why.contains("damaged"), "{why}");
        println!("{}", done(&restore(stage, &file)?, "restore")?.trim());

        for manager in ["m1", "m2", "m3"] {
            stage.start_manager(manager)?;
        }
        let seen = wait::until_ok("the VM is up again, by its node's word", LIMIT, || {
            let vm = stage.read(&format!("/v1/vms/{VM_ONE}"))?;
            let of = |field: &str| vm.pointer(field).and_then(Value::as_str).map(ToOwned::to_owned);
            ensure!(of("/state").as_deref() == Some("up") && of("/source").as_deref() == Some("direct"), "{vm}");
            Ok::<(), anyhow::Error>(())
        })?;
        println!("the VM is up again after {:?}", seen.1);
        for manager in ["m1", "m2", "m3"] {
            stage.must_run(manager)?;
            ensure!(has_vote(stage, manager)?, "{manager} votes");
        }
        ensure!(boot_budget(stage, "pool=before")? == Some(61_000), "what was backed up is there");
        ensure!(boot_budget(stage, "pool=after")?.is_none(), "what came later is lost, as it is documented");
        set(stage, "pool=after")?;

        // The certificate of the removed node is worth nothing in the new cluster either.
        stage.start_new_node("n3", n3.path())?;
        let (code, said) = stage.await_end("n3", LIMIT)?;
        ensure!(code == Some(5) && said.contains("node n3 was removed"), "{code:?}: {said}");
        Ok(())
    });
}
