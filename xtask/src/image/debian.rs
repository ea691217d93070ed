//! Takes Debian packages apart below the target folder; nothing is installed.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, bail};

use crate::{prerequisites, shell};

/// Downloads packages into a folder, which is made, and returns the package files in it.
pub(crate) fn download(packages: &[String], into: &Path) -> Result<Vec<PathBuf>> {
    if shell::find_program("apt-get").is_none() || shell::find_program("dpkg-deb").is_none() {
        bail!("the images are made from Debian packages, and this machine has no apt-get and dpkg-deb");
    }
    prerequisites::update_lists_if_empty()?;
    fs::create_dir_all(into).with_context(|| format!("can't make {}", into.display()))?;
    // apt would otherwise drop to a user that can't write here, and complain.
    shell::output(
        Command::new("apt-get")
            .current_dir(into)
            .args(["download", "-qq", "-o", "APT::Sandbox::User=root"])
            .args(packages),
    )?;
    let mut files = Vec::new();
    for entry in fs::read_dir(into).with_context(|| format!("can't list {}", into.display()))? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "deb") {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}

/// Unpacks package files over one another into a folder.
pub(crate) fn unpack(files: &[PathBuf], into: &Path) -> Result<()> {
    fs::create_dir_all(into).with_context(|| format!("can't make {}", into.display()))?;
    for file in files {
        shell::output(Command::new("dpkg-deb").arg("-x").arg(file).arg(into))?;
    }
    Ok(())
}

/// Returns the packages on which a metapackage directly depends.
pub(crate) fn depends(package: &str) -> Result<Vec<String>> {
    prerequisites::update_lists_if_empty()?;
    let text = shell::output(Command::new("apt-cache").args(["depends", "--important", package]))?;
    Ok(text.lines().filter_map(|line| line.trim().strip_prefix("Depends: ").map(str::to_owned)).collect())
}

/// Returns the given packages and all library packages that they need, directly or through others.
pub(crate) fn library_closure(packages: &[&str]) -> Result<Vec<String>> {
    prerequisites::update_lists_if_empty()?;
    let text = shell::output(
        Command::new("apt-cache")
            .args(["depends", "--recurse", "--important", "--no-pre-depends"])
            .args(["--no-conflicts", "--no-breaks", "--no-replaces"])
            .args(packages),
    )?;
    let mut closure: BTreeSet<String> = packages.iter().map(|&package| package.to_owned()).collect();
    let is_library = |name: &str| (name.starts_with("lib") && !name.ends_with("-perl")) || name == "zlib1g";
    closure.extend(text.lines().filter(|line| is_library(line)).map(str::to_owned));
    Ok(closure.into_iter().collect())
}
