//! The first VM: busybox, the real xrdp and the real QEMU guest agent from their Debian packages.
//!
//! It is what the tests and the demo watch. `xtask/guest/init` is its PID 1 and says how it is told who it is.

use std::{fs, path::Path, process::Command};

use anyhow::{Context, Result, bail};
use serde_json::json;

use super::{
    cpio::Archive,
    debian, elf,
    kernel::{Kernel, MODULES, PANIC_MODULES},
    stamp::{self, Stamp},
};
use crate::shell;

const INIT: &str = include_str!("../../guest/init");
const PACKAGES: &[&str] = &["busybox-static", "openssl", "qemu-guest-agent", "xrdp"];
const LIBRARIES: &str = "usr/lib/x86_64-linux-gnu";

/// Builds the image into `target/images/guest`.
pub(crate) fn build() -> Result<()> {
    let kernel = Kernel::fetch()?;
    let folder = super::folder().join("guest");
    let modules: Vec<&str> = MODULES.iter().chain(PANIC_MODULES).copied().collect();
    let kernel_digest = kernel.digest()?;
    let packages = PACKAGES.join(" ");
    let listed = modules.join(" ");
    let inputs = ["guest 3", INIT, packages.as_str(), listed.as_str(), kernel_digest.as_str()];
    let stamp = Stamp::of(folder.join("stamp"), inputs.map(str::as_bytes));
    if stamp.is_fresh() {
        println!("{} is up to date", folder.display());
        return Ok(());
    }
    let work = super::folder().join("guest-work");
    for old in [&folder, &work] {
        if old.exists() {
            fs::remove_dir_all(old).with_context(|| format!("can't remove {}", old.display()))?;
        }
        fs::create_dir_all(old).with_context(|| format!("can't make {}", old.display()))?;
    }
    println!("fetching {packages} and their libraries");
    let root = work.join("root");
    let files = debian::download(&debian::library_closure(PACKAGES)?, &work.join("packages"))?;
    debian::unpack(&files, &root)?;

    let mut archive = Archive::default();
    archive.program("init", INIT);
    let order = kernel.add_modules(&modules, &mut archive)?;
    archive.copy_program("bin/busybox", &root.join("bin/busybox"))?;
    let programs = ["xrdp", "qemu-ga"].map(|name| root.join("usr/sbin").join(name));
    for program in &programs {
        let name = program.file_name().unwrap_or_default().to_string_lossy();
        archive.copy_program(&format!("usr/sbin/{name}"), program)?;
    }
    for (name, file) in elf::closure(&programs, &root)? {
        archive.copy_program(&format!("usr/lib/{name}"), &file)?;
    }
    archive.symlink("lib64/ld-linux-x86-64.so.2", "../usr/lib/ld-linux-x86-64.so.2");
    let configuration = fs::read_to_string(root.join("etc/xrdp/xrdp.ini")).context("xrdp brought no configuration")?;
    archive.file("etc/xrdp/xrdp.ini", quiet(&configuration)?);
    for name in ["xrdp_keyboard.ini", "km-00000409.ini"] {
        archive.copy(&format!("etc/xrdp/{name}"), &root.join("etc/xrdp").join(name))?;
    }
    make_keys(&root, &work)?;
    archive.copy("etc/xrdp/cert.pem", &work.join("cert.pem"))?;
    for name in ["key.pem", "rsakeys.ini"] {
        archive.secret(&format!("etc/xrdp/{name}"), fs::read(work.join(name)).context("a key was not made")?);
    }
    archive.file("etc/passwd", "root:x:0:0:root:/root:/bin/sh\n");
    archive.file("etc/group", "root:x:0:\n");
    for folder in ["dev", "proc", "sys", "tmp"] {
        archive.folder(folder);
    }

    let bytes = archive.into_bytes();
    fs::write(folder.join("initramfs.cpio"), &bytes).context("can't write the initramfs")?;
    fs::copy(&kernel.vmlinux, folder.join("vmlinux")).context("can't copy the kernel")?;
    let manifest = json!({
        "image": "guest",
        "kernel": { "release": kernel.release, "sha256": kernel_digest },
        "initramfs": { "size": bytes.len(), "sha256": stamp::sha256(&bytes) },
        "modules": order,
        "memory_mib": 128,
    });
    fs::write(folder.join("manifest.json"), serde_json::to_string_pretty(&manifest)?)
        .context("can't write the manifest")?;
    stamp.write()?;
    println!("{}: kernel {}, initramfs {} KiB", folder.display(), kernel.release, bytes.len() / 1024);
    Ok(())
}

/// Returns xrdp's own configuration without its log: a probe a second would fill the guest's memory with it, and the
/// console of an emulated machine is slow.
fn quiet(configuration: &str) -> Result<String> {
    let mut text = configuration.to_owned();
    for (from, to) in [
        ("\nLogLevel=INFO", "\nLogLevel=CORE"),
        ("\n#SyslogLevel=INFO", "\nSyslogLevel=CORE"),
        ("EnableSyslog=true", "EnableSyslog=false"),
    ] {
        if !text.contains(from) {
            bail!("xrdp.ini of the package has no `{}`", from.trim());
        }
        text = text.replace(from, to);
    }
    Ok(text)
}

/// Makes the keys that the packages would make when they are installed, with the packages' own programs.
fn make_keys(root: &Path, work: &Path) -> Result<()> {
    let loader =
        ["lib64/ld-linux-x86-64.so.2", "usr/lib64/ld-linux-x86-64.so.2", "lib/x86_64-linux-gnu/ld-linux-x86-64.so.2"]
            .iter()
            .map(|path| root.join(path))
            .find(|path| path.is_file());
    let Some(loader) = loader else { bail!("libc6 brought no loader") };
    let folders = [root.join(LIBRARIES), root.join("lib/x86_64-linux-gnu"), root.join(LIBRARIES).join("xrdp")];
    let path = folders.map(|folder| folder.to_string_lossy().into_owned()).join(":");
    let program = |name: &str| {
        let mut command = Command::new(&loader);
        command.arg("--library-path").arg(&path).arg(root.join("usr/bin").join(name)).current_dir(work);
        command
    };
    shell::output(
        program("openssl")
            .args(["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=guest", "-days", "3650"])
            .args(["-keyout", "key.pem", "-out", "cert.pem"])
            .env("OPENSSL_CONF", root.join("etc/ssl/openssl.cnf")),
    )?;
    shell::output(program("xrdp-keygen").args(["xrdp", "rsakeys.ini"]))?;
    Ok(())
}
