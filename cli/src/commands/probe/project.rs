//! `vouch probe new` and `build`: an author's project.

use std::path::Path;

use serde::Serialize;
use vouch_probe_kit::project::{self, KitSource, Language};
use vouch_types::ProbeName;

use crate::args::{Global, ProbeLanguage};
use crate::exit::CliError;
use crate::output::Output;

#[derive(Serialize)]
struct NewDocument {
    folder: String,
    files: Vec<String>,
}

#[derive(Serialize)]
struct BuiltDocument {
    component: String,
    size: u64,
}

/// Makes a project in a folder of its name.
///
/// # Errors
/// When the folder exists, or cannot be made.
pub fn new(global: &Global, name: &ProbeName, language: ProbeLanguage, kit: Option<&Path>) -> Result<(), CliError> {
    let language = match language {
        ProbeLanguage::Rust => Language::Rust,
        ProbeLanguage::C => Language::C,
        ProbeLanguage::Js => Language::Js,
    };
    let kit = kit.map_or(KitSource::Release, |path| KitSource::Path(path.to_owned()));
    let (folder, files) = project::create(Path::new(""), name, language, &kit)?;
    let text = |path: &Path| path.display().to_string();
    let document = NewDocument { folder: text(&folder), files: files.iter().map(|file| text(file)).collect() };
    Output::new(global).show(&document, |_| {
        let files: String = document.files.iter().map(|file| format!("  {file}\n")).collect();
        let folder = &document.folder;
        format!(
            "made the project {folder}:\n{files}next: cd {folder} && vouch probe build; {folder}/README.md tells more\n"
        )
    })
}

/// Builds a project and tells where its component lies, on a line of its own.
///
/// # Errors
/// When it does not build.
pub fn build(global: &Global, dir: &Path) -> Result<(), CliError> {
    let component = vouch_probe_kit::build(dir)?;
    let size = std::fs::metadata(&component)?.len();
    let document = BuiltDocument { component: component.display().to_string(), size };
    Output::new(global).show(&document, |_| format!("{}\n", document.component))
}
