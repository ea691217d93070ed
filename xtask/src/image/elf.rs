//! Finds the shared libraries that programs need, inside a folder of unpacked packages.

use std::{
    collections::{BTreeMap, VecDeque},
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, bail};

use crate::shell;

/// Returns the libraries that the programs need, directly or through others: name -> file below `root`.
pub(crate) fn closure(programs: &[PathBuf], root: &Path) -> Result<BTreeMap<String, PathBuf>> {
    let mut available = BTreeMap::new();
    index(root, &mut available)?;
    let mut found = BTreeMap::new();
    let mut todo: VecDeque<PathBuf> = programs.iter().cloned().collect();
    while let Some(file) = todo.pop_front() {
        for name in needed(&file)? {
            if found.contains_key(&name) {
                continue;
            }
            let Some(library) = available.get(&name) else {
                bail!("{} needs {name}, which is in none of the unpacked packages", file.display());
            };
            found.insert(name, library.clone());
            todo.push_back(library.clone());
        }
    }
    Ok(found)
}

/// Returns the names in the file's DT_NEEDED entries.
fn needed(file: &Path) -> Result<Vec<String>> {
    let text = shell::output(Command::new("readelf").arg("--dynamic").arg("--wide").arg(file).env("LC_ALL", "C"))?;
    let name = |line: &str| line.split_once("(NEEDED)")?.1.split_once('[')?.1.split_once(']').map(|it| it.0.to_owned());
    Ok(text.lines().filter_map(name).collect())
}

fn index(folder: &Path, into: &mut BTreeMap<String, PathBuf>) -> Result<()> {
    for entry in fs::read_dir(folder).with_context(|| format!("can't list {}", folder.display()))? {
        let entry = entry?;
        let path = entry.path();
        if entry.file_type()?.is_dir() {
            index(&path, into)?;
        } else {
            let name = entry.file_name().to_string_lossy().into_owned();
            // A link may point to a place that exists only in a whole system.
            if name.contains(".so") && path.is_file() {
                into.entry(name).or_insert(path);
            }
        }
    }
    Ok(())
}
