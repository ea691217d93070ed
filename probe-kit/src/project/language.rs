//! The languages that projects are made for.
//!
//! A language is on this list only if a test makes a project of it, builds it with its tools, and runs the component.

use std::path::Path;

/// A language for probes.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Language {
    /// Rust, for the target `wasm32-wasip2`.
    Rust,
    /// C, compiled by zig and linked with the C library of Rust's target `wasm32-wasip2`.
    C,
    /// JavaScript, put beside QuickJS by componentize-qjs.
    Js,
}

impl Language {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Rust, Self::C, Self::Js];

    /// Returns its name.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Rust => "rust",
            Self::C => "c",
            Self::Js => "js",
        }
    }

    /// Returns the language of the project in this folder, by the file that its tools begin with.
    pub fn of_project(folder: &Path) -> Option<Self> {
        Self::ALL.into_iter().find(|language| folder.join(language.manifest()).is_file())
    }

    /// Returns the file that its tools begin with.
    pub const fn manifest(self) -> &'static str {
        match self {
            Self::Rust => "Cargo.toml",
            Self::C => "Makefile",
            Self::Js => "package.json",
        }
    }
}
