//! The files of a new project as text: templates with a few words in braces, and the contract as it is.

use vouch_types::ProbeName;
use wit_bindgen_core::Files;
use wit_bindgen_core::wit_parser::{Resolve, SourceMap};

use super::{KitSource, Language};

/// The contract that new projects are written for: the one whose words the templates use.
const CONTRACT: [(&str, &str); 8] = [
    ("check.wit", include_str!("../../../wit/vouch-probe-1/check.wit")),
    ("guest-agent.wit", include_str!("../../../wit/vouch-probe-1/guest-agent.wit")),
    ("icmp.wit", include_str!("../../../wit/vouch-probe-1/icmp.wit")),
    ("log.wit", include_str!("../../../wit/vouch-probe-1/log.wit")),
    ("probe.wit", include_str!("../../../wit/vouch-probe-1/probe.wit")),
    ("tcp.wit", include_str!("../../../wit/vouch-probe-1/tcp.wit")),
    ("tls.wit", include_str!("../../../wit/vouch-probe-1/tls.wit")),
    ("types.wit", include_str!("../../../wit/vouch-probe-1/types.wit")),
];

const RUST: [(&str, &str); 11] = [
    ("Cargo.toml", include_str!("../../templates/rust/Cargo.toml.in")),
    ("build.rs", include_str!("../../templates/rust/build.rs.in")),
    (".gitignore", include_str!("../../templates/rust/gitignore.in")),
    ("README.md", include_str!("../../templates/rust/README.md.in")),
    ("src/lib.rs", include_str!("../../templates/rust/src/lib.rs.in")),
    ("src/banner.rs", include_str!("../../templates/rust/src/banner.rs.in")),
    ("src/component.rs", include_str!("../../templates/rust/src/component.rs.in")),
    ("src/settings.rs", include_str!("../../templates/rust/src/settings.rs.in")),
    ("src/settings.schema.json", include_str!("../../templates/rust/src/settings.schema.json.in")),
    ("examples/greeter.rs", include_str!("../../templates/rust/examples/greeter.rs.in")),
    ("tests/in_the_host.rs", include_str!("../../templates/rust/tests/in_the_host.rs.in")),
];

const C: [(&str, &str); 8] = [
    ("Makefile", include_str!("../../templates/c/Makefile.in")),
    (".gitignore", include_str!("../../templates/c/gitignore.in")),
    ("README.md", include_str!("../../templates/c/README.md.in")),
    ("src/banner.c", include_str!("../../templates/c/src/banner.c.in")),
    ("src/banner.h", include_str!("../../templates/c/src/banner.h.in")),
    ("src/component.c", include_str!("../../templates/c/src/component.c.in")),
    ("src/settings.c", include_str!("../../templates/c/src/settings.c.in")),
    ("src/settings.h", include_str!("../../templates/c/src/settings.h.in")),
];

const JS: [(&str, &str); 12] = [
    ("package.json", include_str!("../../templates/js/package.json.in")),
    (".gitignore", include_str!("../../templates/js/gitignore.in")),
    ("README.md", include_str!("../../templates/js/README.md.in")),
    ("src/banner.js", include_str!("../../templates/js/src/banner.js.in")),
    ("src/component.js", include_str!("../../templates/js/src/component.js.in")),
    ("src/settings.js", include_str!("../../templates/js/src/settings.js.in")),
    ("src/tcp.js", include_str!("../../templates/js/src/tcp.js.in")),
    ("tests/settings.test.js", include_str!("../../templates/js/tests/settings.test.js.in")),
    ("wit/world.wit", include_str!("../../templates/js/wit/world.wit.in")),
    ("wit/deps/wasi-clocks/clocks.wit", include_str!("../../templates/js/wit/deps/wasi-clocks/clocks.wit.in")),
    ("wit/deps/wasi-io/io.wit", include_str!("../../templates/js/wit/deps/wasi-io/io.wit.in")),
    ("wit/deps/wasi-sockets/sockets.wit", include_str!("../../templates/js/wit/deps/wasi-sockets/sockets.wit.in")),
];

/// Returns the files of a project, by their path in it.
pub(super) fn files(name: &ProbeName, language: Language, kit: &KitSource) -> Vec<(String, Vec<u8>)> {
    let templates: &[(&str, &str)] = match language {
        Language::Rust => &RUST,
        Language::C => &C,
        Language::Js => &JS,
    };
    let kit = match kit {
        KitSource::Release => format!("vouch-probe-kit = {:?}", env!("CARGO_PKG_VERSION")),
        KitSource::Path(path) => format!("vouch-probe-kit = {{ path = {:?} }}", path.display().to_string()),
    };
    // A crate's name begins with a letter, a probe's may begin with a digit.
    let package = if name.as_str().starts_with(|c: char| c.is_ascii_digit()) {
        format!("probe-{name}")
    } else {
        name.to_string()
    };
    let file = package.replace('-', "_");
    let fill = |(path, text): &(&'static str, &str)| {
        let text = text.replace("name = \"{name}\"\nversion", &format!("name = \"{package}\"\nversion"));
        let text = text.replace("{name}", name.as_str()).replace("{file}", &file).replace("{kit}", &kit);
        let text = text.replace("{package}", &package);
        ((*path).to_owned(), text.into_bytes())
    };
    let contract_in = match language {
        Language::Rust | Language::C => "wit",
        // The world of the project is a package of its own, because a component of an interpreter imports all of its world.
        Language::Js => "wit/deps/vouch-probe",
    };
    let contract = CONTRACT.iter().map(|(path, text)| (format!("{contract_in}/{path}"), text.as_bytes().to_vec()));
    let bindings = match language {
        // Their tools make them while they build.
        Language::Rust | Language::Js => Vec::new(),
        Language::C => c_bindings(),
    };
    templates.iter().map(fill).chain(contract).chain(bindings).collect()
}

/// Returns the contract as C.
fn c_bindings() -> Vec<(String, Vec<u8>)> {
    let mut resolve = Resolve::default();
    let mut sources = SourceMap::default();
    for (path, text) in CONTRACT {
        sources.push_str(path, text);
    }
    let group = sources.parse().map_err(|(_, error)| error).expect("the contract of this repository is well-formed");
    let package = resolve.push_group(group).expect("the contract needs no other package");
    let world = resolve.select_world(&[package], Some("probe")).expect("the contract has this world");
    let mut files = Files::default();
    let mut generator = wit_bindgen_c::Opts::default().build();
    generator.generate(&mut resolve, world, &mut files).expect("the contract has only what C can say");
    files.iter().map(|(name, bytes)| (format!("bindings/{name}"), bytes.to_vec())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(name: &str, kit: &KitSource, file: &str) -> String {
        let files = files(&ProbeName::new(name).unwrap(), Language::Rust, kit);
        String::from_utf8(files.into_iter().find(|(path, _)| *path == file).unwrap().1).unwrap()
    }

    #[test]
    fn no_word_in_braces_is_left() {
        let of = |language| files(&ProbeName::new("a").unwrap(), language, &KitSource::Release);
        for (path, text) in Language::ALL.into_iter().flat_map(of) {
            let text = String::from_utf8_lossy(&text);
            for word in ["{name}", "{file}", "{kit}", "{package}"] {
                assert!(!text.contains(word), "{path} holds {word}");
            }
        }
    }

    #[test]
    fn the_test_crate_is_named_by_version_or_path() {
        let release = text("ssh", &KitSource::Release, "Cargo.toml");
        assert!(release.contains(&format!("\nvouch-probe-kit = \"{}\"\n", env!("CARGO_PKG_VERSION"))), "{release}");
        let path = text("ssh", &KitSource::Path("/a/probe-kit".into()), "Cargo.toml");
        assert!(path.contains("\nvouch-probe-kit = { path = \"/a/probe-kit\" }\n"), "{path}");
    }

    #[test]
    fn a_name_that_begins_with_a_digit_still_names_a_crate() {
        assert!(text("3d-desk", &KitSource::Release, "Cargo.toml").contains("\nname = \"probe-3d-desk\"\n"));
        assert!(text("3d-desk", &KitSource::Release, "src/component.rs").contains("name: \"3d-desk\""));
        assert!(text("3d-desk", &KitSource::Release, "README.md").contains("release/probe_3d_desk.wasm"));
    }
}
