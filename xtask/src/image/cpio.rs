//! Writes a cpio archive in the "newc" form that Linux unpacks as its initramfs
//! (Documentation/driver-api/early-userspace/buffer-format.rst of the kernel).
//!
//! The same files give the same bytes: entries are sorted, owners are root, and the time of every file is 0.

use std::{collections::BTreeMap, fs, path::Path};

use anyhow::{Context, Result};

const DIRECTORY: u32 = 0o040_755;
const FILE: u32 = 0o100_644;
const PROGRAM: u32 = 0o100_755;
const SECRET: u32 = 0o100_600;
const SYMLINK: u32 = 0o120_777;

/// The files of an initramfs, by their path without the leading slash.
#[derive(Debug, Default)]
pub(crate) struct Archive {
    entries: BTreeMap<String, Entry>,
}

#[derive(Debug)]
struct Entry {
    mode: u32,
    data: Vec<u8>,
}

impl Archive {
    /// Adds a folder and the folders above it.
    pub(crate) fn folder(&mut self, path: &str) {
        self.parents(path);
        self.entries.entry(path.to_owned()).or_insert(Entry { mode: DIRECTORY, data: Vec::new() });
    }

    /// Adds a plain file.
    pub(crate) fn file(&mut self, path: &str, data: impl Into<Vec<u8>>) {
        self.add(path, FILE, data.into());
    }

    /// Adds a file that can be executed.
    pub(crate) fn program(&mut self, path: &str, data: impl Into<Vec<u8>>) {
        self.add(path, PROGRAM, data.into());
    }

    /// Adds a file that only root may read.
    pub(crate) fn secret(&mut self, path: &str, data: impl Into<Vec<u8>>) {
        self.add(path, SECRET, data.into());
    }

    /// Adds a symbolic link.
    pub(crate) fn symlink(&mut self, path: &str, target: &str) {
        self.add(path, SYMLINK, target.as_bytes().to_vec());
    }

    /// Adds a plain file that is read from the host.
    pub(crate) fn copy(&mut self, path: &str, from: &Path) -> Result<()> {
        self.file(path, read(from)?);
        Ok(())
    }

    /// Adds a program that is read from the host.
    pub(crate) fn copy_program(&mut self, path: &str, from: &Path) -> Result<()> {
        self.program(path, read(from)?);
        Ok(())
    }

    /// Returns the archive's bytes.
    pub(crate) fn into_bytes(self) -> Vec<u8> {
        let mut out = Vec::new();
        for (number, (path, entry)) in (1_u32..).zip(&self.entries) {
            write_entry(&mut out, number, path, entry);
        }
        write_entry(&mut out, 0, "TRAILER!!!", &Entry { mode: 0, data: Vec::new() });
        out
    }

    fn add(&mut self, path: &str, mode: u32, data: Vec<u8>) {
        self.parents(path);
        self.entries.insert(path.to_owned(), Entry { mode, data });
    }

    fn parents(&mut self, path: &str) {
        for (at, _) in path.match_indices('/') {
            self.entries.entry(path[..at].to_owned()).or_insert(Entry { mode: DIRECTORY, data: Vec::new() });
        }
    }
}

fn read(from: &Path) -> Result<Vec<u8>> {
    fs::read(from).with_context(|| format!("can't read {}", from.display()))
}

fn write_entry(out: &mut Vec<u8>, number: u32, path: &str, entry: &Entry) {
    let links = if entry.mode == DIRECTORY { 2 } else { 1 };
    let name_size = path.len() + 1;
    out.extend_from_slice(b"070701");
    // ino mode uid gid nlink mtime filesize devmajor devminor rdevmajor rdevminor namesize check
    let fields = [number, entry.mode, 0, 0, links, 0, entry.data.len() as u32, 0, 0, 0, 0, name_size as u32, 0];
    for field in fields {
        out.extend_from_slice(format!("{field:08x}").as_bytes());
    }
    out.extend_from_slice(path.as_bytes());
    out.push(0);
    pad(out);
    out.extend_from_slice(&entry.data);
    pad(out);
}

fn pad(out: &mut Vec<u8>) {
    while !out.len().is_multiple_of(4) {
        out.push(0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_folders_of_a_file_come_before_it() {
        let mut archive = Archive::default();
        archive.file("etc/xrdp/xrdp.ini", "x");
        let names: Vec<&String> = archive.entries.keys().collect();
        assert_eq!(names, ["etc", "etc/xrdp", "etc/xrdp/xrdp.ini"]);
    }

    #[test]
    fn the_same_files_in_another_order_give_the_same_bytes() {
        let mut one = Archive::default();
        one.program("init", "a");
        one.file("b/c", "d");
        let mut two = Archive::default();
        two.file("b/c", "d");
        two.program("init", "a");
        assert_eq!(one.into_bytes(), two.into_bytes());
    }

    #[test]
    fn headers_and_data_begin_at_multiples_of_four() {
        let mut archive = Archive::default();
        archive.file("abc", "12345");
        let bytes = archive.into_bytes();
        assert_eq!(&bytes[..6], b"070701");
        assert_eq!(&bytes[110..114], b"abc\0");
        let data = 116;
        assert_eq!(&bytes[data..data + 5], b"12345");
        assert_eq!(&bytes[data + 8..data + 14], b"070701");
        assert!(bytes.len().is_multiple_of(4));
    }
}
