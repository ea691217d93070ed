//! What may be uploaded as a probe: see `manager/src/api/component.rs`.
//!
//! A component that is taken imports nothing but what is allowed, and no import is overlooked: a second reader, which keeps
//! account of what is nested in what by another way, finds the same.

#![no_main]

#[path = "../../manager/src/api/component.rs"]
mod component;

use std::collections::BTreeSet;

use vouch_types::allowed_imports::may_import;
use wasmparser::{ComponentTypeRef, Parser, Payload};

/// The imports of the outermost component that are more than a type.
fn imports(bytes: &[u8]) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    let mut open = 0_u32;
    for payload in Parser::new(0).parse_all(bytes) {
        match payload.expect("it was read a moment ago") {
            Payload::Version { .. } => open += 1,
            Payload::End(_) => open -= 1,
            Payload::ComponentImportSection(section) if open == 1 => {
                let all = section.into_iter().map(|import| import.expect("it was read a moment ago"));
                let more = all.filter(|import| !matches!(import.ty, ComponentTypeRef::Type(_)));
                found.extend(more.map(|import| import.name.name.to_owned()));
            }
            _ => {}
        }
    }
    found
}

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    match component::read_component(bytes) {
        Ok(_) => {
            for import in imports(bytes) {
                assert!(may_import(&import), "{import} was overlooked");
            }
        }
        Err(error) => {
            let said = error.to_string();
            assert!(!said.is_empty() && !said.contains('\n'), "one line: {said:?}");
        }
    }
});
