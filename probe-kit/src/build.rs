//! Builds an author's project with the ordinary tools of its language, and finds the component.

use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde::Deserialize;

use crate::project::Language;

/// The target of components.
const WASM_TARGET: &str = "wasm32-wasip2";
/// What is likely to be missing for a project in Rust or C.
const TARGET_MISSING: &str = "the target is missing, run \"rustup target add wasm32-wasip2\"";

/// Why there is no component.
#[derive(thiserror::Error, Debug)]
pub enum BuildError {
    /// The folder holds no project.
    #[error("project {folder}: has no Cargo.toml, no Makefile and no package.json: make one with \"vouch probe new\"")]
    NoProject {
        /// The folder.
        folder: PathBuf,
    },
    /// The language's tool is not there.
    #[error("{tool}: cannot be started")]
    Tool {
        /// The tool.
        tool: String,
        /// Why.
        source: io::Error,
    },
    /// The tool failed; what it said went to standard error.
    #[error("{command}, in {folder}: failed; if {missing}")]
    Failed {
        /// What was run.
        command: String,
        /// Where.
        folder: PathBuf,
        /// What is likely to be missing, and what brings it.
        missing: &'static str,
    },
    /// The project makes no component.
    #[error("{command}, in {folder}: made no component")]
    NoComponent {
        /// What was run.
        command: String,
        /// Where.
        folder: PathBuf,
    },
}

/// Builds the project in this folder and returns its component. What the tools say goes to standard error.
///
/// # Errors
/// [`BuildError`] when there is no project, or its tools make no component of it.
pub fn build(folder: &Path) -> Result<PathBuf, BuildError> {
    match Language::of_project(folder) {
        Some(Language::Rust) => build_rust(folder),
        Some(Language::C) => build_c(folder),
        Some(Language::Js) => build_js(folder),
        None => Err(BuildError::NoProject { folder: folder.to_owned() }),
    }
}

/// What cargo says of one thing that it made.
#[derive(Deserialize)]
struct Made {
    reason: String,
    #[serde(default)]
    filenames: Vec<PathBuf>,
}

fn build_rust(folder: &Path) -> Result<PathBuf, BuildError> {
    // Inside `cargo test` this names the cargo that runs it.
    let tool = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut cargo = Command::new(tool);
    cargo.args(["build", "--lib", "--release", "--target", WASM_TARGET, "--message-format", "json-render-diagnostics"]);
    // Flags for this machine's code are not for the component's.
    for variable in ["RUSTFLAGS", "CARGO_ENCODED_RUSTFLAGS", "RUSTC_WRAPPER", "RUSTC_WORKSPACE_WRAPPER"] {
        cargo.env_remove(variable);
    }
    let said = said_by(&mut cargo, folder, TARGET_MISSING)?;
    component_in(&said).ok_or_else(|| BuildError::NoComponent { command: words(&cargo), folder: folder.to_owned() })
}

fn build_c(folder: &Path) -> Result<PathBuf, BuildError> {
    let mut make = Command::new("make");
    said_by(make.arg("--silent"), folder, TARGET_MISSING)?;
    // The same command once more with a goal of the template.
    said_where(make.arg("where"), folder, TARGET_MISSING)
}

fn build_js(folder: &Path) -> Result<PathBuf, BuildError> {
    const MISSING: &str = "componentize-qjs is missing, run \"npm install\" there";
    let mut npm = Command::new("npm");
    said_by(npm.args(["run", "--silent", "build"]), folder, MISSING)?;
    said_where(Command::new("npm").args(["run", "--silent", "where"]), folder, MISSING)
}

/// Returns the component whose place this tool prints, and nothing else.
fn said_where(tool: &mut Command, folder: &Path, missing: &'static str) -> Result<PathBuf, BuildError> {
    let said = said_by(tool, folder, missing)?;
    let component = folder.join(said.trim());
    if component.is_file() {
        return Ok(component);
    }
    Err(BuildError::NoComponent { command: words(tool), folder: folder.to_owned() })
}

/// Runs a tool in the project's folder and returns what it said on standard output.
fn said_by(tool: &mut Command, folder: &Path, missing: &'static str) -> Result<String, BuildError> {
    let done = tool.current_dir(folder).stdin(Stdio::null()).stderr(Stdio::inherit()).output();
    let done = done.map_err(|source| BuildError::Tool { tool: words(tool), source })?;
    if !done.status.success() {
        return Err(BuildError::Failed { command: words(tool), folder: folder.to_owned(), missing });
    }
    Ok(String::from_utf8_lossy(&done.stdout).into_owned())
}

fn words(tool: &Command) -> String {
    let words: Vec<_> =
        std::iter::once(tool.get_program()).chain(tool.get_args()).map(|w| w.to_string_lossy()).collect();
    words.join(" ")
}

/// Returns the last component among what cargo says that it made: the project itself is made last.
fn component_in(messages: &str) -> Option<PathBuf> {
    let made = messages.lines().filter_map(|line| serde_json::from_str::<Made>(line).ok());
    let mut files = made.filter(|made| made.reason == "compiler-artifact").flat_map(|made| made.filenames);
    files.rfind(|file| file.extension().is_some_and(|end| end == "wasm"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_component_is_found_in_what_cargo_says() {
        let said = r#"{"reason":"compiler-artifact","filenames":["/t/libserde.rlib"]}
{"reason":"compiler-artifact","filenames":["/t/libssh.rlib","/t/ssh.wasm"]}
{"reason":"build-finished","success":true}"#;
        assert_eq!(component_in(said), Some("/t/ssh.wasm".into()));
        assert_eq!(component_in("not json\n{}"), None);
    }

    #[test]
    fn a_folder_without_a_project_is_told_with_what_makes_one() {
        let dir = tempfile::tempdir().unwrap();
        let refused = build(dir.path()).unwrap_err().to_string();
        assert!(
            refused.ends_with("has no Cargo.toml, no Makefile and no package.json: make one with \"vouch probe new\""),
            "{refused}"
        );
    }
}
