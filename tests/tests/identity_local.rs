//! Another machine at a VM's address, on processes: the probe `rdp` of real watchers at desktops that tell their names.

#![expect(clippy::print_stdout, reason = "the times are what these tests are also run for")]

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use tokio::runtime::Runtime;
use vouch_probe_kit::fakes::{FakeRdp, RunningFake};
use vouch_tests::story::{Cursor, Events, Expected, LocalStage, Stage, VM_ONE, WELL};
use vouch_tests::wait;

const LIMIT: Duration = Duration::from_secs(60);

/// Starts a desktop of this name at this address, as soon as the one before it is gone from there.
fn desktop(runtime: &Runtime, name: &str, address: SocketAddr) -> Result<RunningFake> {
    let name = name.parse()?;
    let start = || -> Result<RunningFake> { Ok(runtime.block_on(FakeRdp::Nla(name).start_at(address))?) };
    Ok(wait::until_ok("the address is free", LIMIT, start)?.0)
}

/// Returns the one identity that is pinned for the VM's desktop.
fn pinned(stage: &LocalStage) -> Result<String> {
    let shown = stage.read(&format!("/v1/vms/{VM_ONE}"))?;
    let pins = shown.get("pins").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    ensure!(pins.len() == 1 && pins[0]["probe"] == "rdp", "not one pin of rdp: {pins:?}");
    Ok(pins[0]["identity"].as_str().context("a pin has an identity")?.to_owned())
}

#[test]
fn another_machine_at_the_address_of_a_vm_is_told_once_until_it_is_said_to_be_the_vm() {
    LocalStage::play(
        "identity",
        |text| println!("{text}"),
        |stage| {
            let runtime = Runtime::new()?;
            // The port is chosen first: settings and address of the VM stand in one file.
            let port =
                desktop(&runtime, "PORT", SocketAddr::from(([127, 0, 0, 1], 0)))?.port().context("it listens")?;
            let settings = toml::from_str(&format!("port = {port}\nnla = true\nidentity = \"name\""))?;
            let address: IpAddr = stage.set_settings(VM_ONE, "rdp", settings)?;
            let address = SocketAddr::new(address, port);
            let own = desktop(&runtime, "DESK-1", address)?;
            let (first, _) = wait::until_ok("the name of desk-1 is pinned", LIMIT, || pinned(stage))?;
            stage.expect(VM_ONE, WELL, LIMIT)?;

            let before = Cursor::now(stage)?;
            drop(own);
            let _other = desktop(&runtime, "DESK-2", address)?;
            let degraded = Expected { state: "degraded", source: "direct", cause: Some("service(rdp)") };
            let told = stage.expect(VM_ONE, degraded, LIMIT)?;
            println!("{:>8.2} s  another machine at the address: {degraded:?}", told.as_secs_f64());
            let shown = stage.read(&format!("/v1/vms/{VM_ONE}"))?;
            let details: Vec<&str> =
                shown["faults"].as_array().into_iter().flatten().filter_map(|f| f["detail"].as_str()).collect();
            ensure!(details == ["identity"], "it is not told that another machine answers: {shown}");
            ensure!(pinned(stage)? == first, "the other machine took its place");
            let events = Events::after(stage, &before)?;
            ensure!(events.changed_vms().len() == 1, "not one change:\n{}", events.lines());

            let forgotten = stage.cli().args(["vm", "forget-pins", VM_ONE]).output()?;
            ensure!(forgotten.status.success(), "{}", String::from_utf8_lossy(&forgotten.stderr));
            stage.expect(VM_ONE, WELL, LIMIT).context("forgotten")?;
            let another = || -> Result<()> {
                ensure!(pinned(stage)? != first, "the old one is still pinned");
                Ok(())
            };
            wait::until_ok("the name of the other machine is pinned", LIMIT, another)?;
            let events = Events::after(stage, &before)?;
            events.never(&["down", "lost", "hung", "conflict"])?;
            events.in_order()?;
            ensure!(events.changed_vms().len() == 2, "degraded and up again, and no more:\n{}", events.lines());
            Ok(())
        },
    );
}
