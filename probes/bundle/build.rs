//! Builds the shipped probes for wasm32-wasip2, with a target folder, a profile and an environment of their own.
//!
//! Their digests must not depend on how vouch itself is built: nothing of the outer build (profile, flags, wrappers such
//! as clippy's) reaches the inner one, and paths of this machine are taken out of the panic messages.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

const TARGET: &str = "wasm32-wasip2";
/// The shipped probes: the crate is `probe-NAME`.
const SHIPPED: [&str; 9] = ["dns", "guest-agent", "http", "ping", "rdp", "spice", "ssh", "tcp", "vnc"];
/// For tests and the benchmark: one that breaks the rules, one of the first contract, one with sockets. Built with the others
/// because a feature would build them all twice; no program that is shipped refers to their bytes, so the linker leaves them
/// out.
const FOR_TESTS: [(&str, &str); 3] =
    [("hostile", "probes/hostile"), ("v0-1", "probe-host/tests/guests/v0-1"), ("sockets", "bench/probes/guest")];
/// What the guests are made from, besides their own folders.
const SOURCES: [&str; 4] = ["probes/glue", "probes/kit", "wit", "Cargo.lock"];
/// The profile: small, and without what a guest can't use.
const PROFILE: [&str; 5] = [
    "profile.release.opt-level=\"s\"",
    "profile.release.lto=true",
    "profile.release.codegen-units=1",
    "profile.release.panic=\"abort\"",
    "profile.release.strip=true",
];
/// Stack of a guest, in bytes: twice that with which all their tests passed. With it all memory of a guest that grows none is 64 KiB, which
/// the host keeps from run to run and only clears (`SLOT_MEMORY` in `probe-host/src/memory.rs`).
const STACK: u32 = 24 * 1024;
/// Variables of the outer build that stay: where cargo and rustup live, and whether there is a network.
const KEPT: [&str; 4] = ["CARGO_HOME", "CARGO_HTTP_", "CARGO_NET_", "CARGO_REGISTRIES_"];
/// Variables of the outer build that go.
const CLEARED: [&str; 4] = ["CARGO", "RUSTC_", "RUSTFLAGS", "RUSTDOCFLAGS"];

fn main() {
    if let Err(error) = build() {
        tell(&format!("cargo::error={error}"));
    }
}

fn tell(line: &str) {
    println!("{line}");
}

fn build() -> Result<(), String> {
    let root = root()?;
    let guests = [&SHIPPED[..], &FOR_TESTS.map(|(name, _)| name)].concat();
    for source in SOURCES {
        tell(&format!("cargo::rerun-if-changed={}", root.join(source).display()));
    }
    let folders = SHIPPED.map(|name| format!("probes/{name}"));
    for folder in folders.iter().map(String::as_str).chain(FOR_TESTS.map(|(_, folder)| folder)) {
        tell(&format!("cargo::rerun-if-changed={}", root.join(folder).display()));
    }
    check_target()?;
    let out = PathBuf::from(variable("OUT_DIR")?);
    let folder = guests_folder(&out);
    run_cargo(&root, &folder, &guests)?;
    for guest in &guests {
        let built = folder.join(TARGET).join("release").join(format!("probe_{}.wasm", guest.replace('-', "_")));
        fs::copy(&built, out.join(format!("{guest}.wasm"))).map_err(|e| format!("copy {}: {e}", built.display()))?;
    }
    Ok(())
}

/// Returns where the guests are built: one folder for all profiles and targets of vouch, because the guests are the same for
/// all of them. Cargo marks the root of its target folder.
fn guests_folder(out: &Path) -> PathBuf {
    let root = out.ancestors().find(|folder| folder.join("CACHEDIR.TAG").is_file());
    root.unwrap_or(out).join("guests")
}

fn variable(name: &str) -> Result<String, String> {
    env::var(name).map_err(|e| format!("variable {name}: {e}"))
}

fn root() -> Result<PathBuf, String> {
    let here = PathBuf::from(variable("CARGO_MANIFEST_DIR")?);
    let root = here.ancestors().nth(2).ok_or("the bundle is not two folders below the workspace")?;
    Ok(root.to_path_buf())
}

/// Says in one line what to do when the guests' target is not installed.
fn check_target() -> Result<(), String> {
    let asked = Command::new(variable("RUSTC")?)
        .args(["--print", "target-libdir", "--target", TARGET])
        .output()
        .map_err(|e| format!("ask rustc for {TARGET}: {e}"))?;
    let folder = String::from_utf8_lossy(&asked.stdout);
    if asked.status.success() && Path::new(folder.trim()).is_dir() {
        Ok(())
    } else {
        Err(format!("the probes are built for {TARGET}, which is not installed: run `rustup target add {TARGET}`"))
    }
}

fn run_cargo(root: &Path, folder: &Path, guests: &[&str]) -> Result<(), String> {
    let mut cargo = Command::new(variable("CARGO")?);
    for (name, _) in env::vars_os() {
        let name = name.to_string_lossy();
        let starts = |prefix: &&str| name.starts_with(prefix);
        if CLEARED.iter().any(starts) && !KEPT.iter().any(starts) {
            cargo.env_remove(&*name);
        }
    }
    cargo.env("CARGO_ENCODED_RUSTFLAGS", remapped_paths(root)).current_dir(root);
    cargo.args(["build", "--locked", "--quiet", "--lib", "--release", "--target", TARGET, "--target-dir"]).arg(folder);
    for line in PROFILE {
        cargo.args(["--config", line]);
    }
    for guest in guests {
        cargo.args(["--package", &format!("probe-{guest}")]);
    }
    let done = cargo.output().map_err(|e| format!("start cargo for the probes: {e}"))?;
    if done.status.success() {
        return Ok(());
    }
    String::from_utf8_lossy(&done.stderr).lines().for_each(|line| tell(&format!("cargo::warning={line}")));
    Err("the probes do not build; the compiler's words are above".to_owned())
}

/// Returns flags that take the paths of this machine out of the guests.
fn remapped_paths(root: &Path) -> String {
    let home = env::var_os("CARGO_HOME").map(PathBuf::from);
    let home = home.or_else(|| Some(PathBuf::from(env::var_os("HOME")?).join(".cargo")));
    let mut flags = vec![format!("--remap-path-prefix={}=/vouch", root.display())];
    flags.extend(["-Clink-arg=-z".to_owned(), format!("-Clink-arg=stack-size={STACK}")]);
    flags.extend(home.map(|home| format!("--remap-path-prefix={}=/cargo", home.display())));
    flags.join("\u{1f}")
}
