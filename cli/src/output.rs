//! Printing: tables for people, the API's documents for programs, colour only on a terminal that wants it.

use std::io::{self, IsTerminal, Write};

use comfy_table::{ContentArrangement, Table, presets};
use serde::Serialize;

use crate::args::{Format, Global};
use crate::exit::CliError;

/// Colours, or none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Paint {
    /// Plain text.
    Plain,
    /// ANSI colours (ECMA-48 SGR).
    Colour,
}

impl Paint {
    /// Returns colours if standard output is a terminal and `NO_COLOR` is not set (no-color.org).
    pub fn detect() -> Self {
        let wanted = std::env::var_os("NO_COLOR").is_none_or(|v| v.is_empty());
        let capable = std::env::var_os("TERM").is_none_or(|v| v != "dumb");
        if wanted && capable && io::stdout().is_terminal() { Self::Colour } else { Self::Plain }
    }

    fn sgr(self, code: &str, text: &str) -> String {
        match self {
            Self::Plain => text.to_owned(),
            Self::Colour => format!("\x1b[{code}m{text}\x1b[0m"),
        }
    }

    /// Returns the word for a state in the colour of its weight.
    pub fn state(self, word: &str) -> String {
        match word {
            "up" | "direct" | "live" | "reached" | "open" | "leader" => self.sgr("32", word),
            "down" | "lost" | "conflict" | "hung" => self.sgr("1;31", word),
            "degraded" | "paused" | "rebooting" | "watcher" | "placed" | "silent" | "stalled" | "refused" => {
                self.sgr("33", word)
            }
            _ => word.to_owned(),
        }
    }

    /// Returns a heading.
    pub fn bold(self, text: &str) -> String {
        self.sgr("1", text)
    }

    /// Returns something that is broken.
    pub fn broken(self, text: &str) -> String {
        self.sgr("31", text)
    }
}

/// Where a command prints.
#[derive(Debug, Clone, Copy)]
pub struct Output {
    format: Format,
    /// Colours, or none.
    pub paint: Paint,
}

impl Output {
    /// Returns the output that the command line asks for.
    pub fn new(global: &Global) -> Self {
        Self { format: global.output, paint: Paint::detect() }
    }

    /// Prints a document as JSON, or what `people` makes of it.
    ///
    /// # Errors
    /// When standard output cannot be written.
    pub fn show<T: Serialize>(self, document: &T, people: impl FnOnce(Paint) -> String) -> Result<(), CliError> {
        match self.format {
            Format::Json => self.print(&(serde_json::to_string_pretty(document)? + "\n")),
            Format::Table => self.print(&people(self.paint)),
        }
    }

    /// Prints one document of a stream: a line of JSON, or what `people` makes of it.
    ///
    /// # Errors
    /// When standard output cannot be written.
    pub fn line<T: Serialize>(self, document: &T, people: impl FnOnce(Paint) -> String) -> Result<(), CliError> {
        match self.format {
            Format::Json => self.print(&(serde_json::to_string(document)? + "\n")),
            Format::Table => self.print(&(people(self.paint) + "\n")),
        }
    }

    fn print(self, text: &str) -> Result<(), CliError> {
        let mut out = io::stdout().lock();
        match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
            // `vouch vm ls | head` is no failure.
            Err(e) if e.kind() == io::ErrorKind::BrokenPipe => std::process::exit(0),
            other => Ok(other?),
        }
    }
}

/// Returns a table of these rows.
pub fn table(head: &[&str], rows: impl IntoIterator<Item = Vec<String>>) -> String {
    let mut table = Table::new();
    table.load_preset(presets::NOTHING).set_content_arrangement(ContentArrangement::Disabled);
    table.set_header(head.iter().map(|h| h.to_uppercase()));
    for row in rows {
        table.add_row(row.into_iter().map(|cell| if cell.is_empty() { "-".to_owned() } else { cell }));
    }
    for column in table.column_iter_mut() {
        column.set_padding((0, 2));
    }
    let text = table.to_string();
    text.lines().map(|line| line.trim_end().to_owned() + "\n").collect()
}

/// Returns an age for people.
pub fn age(ms: u64) -> String {
    match ms {
        0..10_000 => format!("{}.{} s", ms / 1000, ms % 1000 / 100),
        10_000..120_000 => format!("{} s", ms / 1000),
        120_000..7_200_000 => format!("{} min", ms / 60_000),
        _ => format!("{} h", ms / 3_600_000),
    }
}
