//! Reads what an uploaded file is and imports: a component's imports are its manifest, which cannot understate.
//!
//! Pure. It never runs a component: the manager has no WebAssembly runtime.

use thiserror::Error;
use vouch_types::ProbeImports;
use vouch_types::allowed_imports::may_import;
use wasmparser::{ComponentTypeRef, Encoding, Parser, Payload, Validator};

/// What a probe must export, up to the patch of the version: the interface of the contract.
pub const REQUIRED_EXPORT: &str = "vouch:probe/check@1.";
/// What a probe exports that was written for `vouch:probe@0.1.0`.
pub const FIRST_EXPORTS: &[&str] = &["describe", "validate", "run"];

/// Why a file is not a probe.
#[derive(Clone, PartialEq, Eq, Debug, Error)]
pub enum ComponentError {
    /// No WebAssembly at all, a core module, or damaged.
    #[error("the file is no WebAssembly component: {0}")]
    NotAComponent(String),
    /// It imports what a probe may not.
    #[error("the component imports what a probe may not: {}", refused.join(", "))]
    ImportsRefused {
        /// All imports.
        imports: Vec<String>,
        /// Those that are refused.
        refused: Vec<String>,
    },
    /// It exports no contract that the watchers know.
    #[error(
        "the component exports {}: a probe exports vouch:probe/check@1.0.0 (of the contract 0.1: {})",
        if exports.is_empty() { "nothing".to_owned() } else { exports.join(", ") },
        FIRST_EXPORTS.join(", ")
    )]
    ExportsMissing {
        /// All imports.
        imports: Vec<String>,
        /// All exports.
        exports: Vec<String>,
    },
}

/// Returns what a component imports.
///
/// # Errors
/// [`ComponentError`] when the bytes are no valid component, import what a probe may not, or lack its exports.
pub fn read_component(bytes: &[u8]) -> Result<ProbeImports, ComponentError> {
    if !bytes.starts_with(b"\0asm") {
        return Err(ComponentError::NotAComponent("it does not begin with the bytes 00 61 73 6d".to_owned()));
    }
    let not = |e: wasmparser::BinaryReaderError| {
        let why = e.message().lines().next().unwrap_or_default().to_owned();
        ComponentError::NotAComponent(format!("{why}, at offset {:#x}", e.offset()))
    };
    let (mut imports, mut exports, mut depth) = (Vec::new(), Vec::new(), 0_u32);
    for payload in Parser::new(0).parse_all(bytes) {
        match payload.map_err(not)? {
            Payload::Version { encoding: Encoding::Module, .. } if depth == 0 => {
                return Err(ComponentError::NotAComponent("it is a core module".to_owned()));
            }
            Payload::ModuleSection { .. } | Payload::ComponentSection { .. } => depth += 1,
            Payload::End(_) => depth = depth.saturating_sub(1),
            Payload::ComponentImportSection(section) if depth == 0 => {
                for import in section {
                    let import = import.map_err(not)?;
                    // A world's `use` shows as imports of types; a type alone can do nothing.
                    if !matches!(import.ty, ComponentTypeRef::Type(_)) {
                        imports.push(import.name.name.to_owned());
                    }
                }
            }
            Payload::ComponentExportSection(section) if depth == 0 => {
                for export in section {
                    exports.push(export.map_err(not)?.name.name.to_owned());
                }
            }
            _ => {}
        }
    }
    Validator::new().validate_all(bytes).map_err(not)?;
    imports.sort();
    let refused: Vec<String> = imports.iter().filter(|i| !may_import(i)).cloned().collect();
    if !refused.is_empty() {
        return Err(ComponentError::ImportsRefused { imports, refused });
    }
    let is_first = FIRST_EXPORTS.iter().all(|first| exports.iter().any(|export| export == first));
    if !is_first && !exports.iter().any(|export| export.starts_with(REQUIRED_EXPORT)) {
        return Err(ComponentError::ExportsMissing { imports, exports });
    }
    Ok(ProbeImports { interfaces: imports })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An empty component (Component Model, Binary.md: magic, version 13, layer 1).
    const EMPTY_COMPONENT: &[u8] = b"\0asm\x0d\0\x01\0";

    #[test]
    fn a_text_and_a_core_module_are_no_components() {
        assert!(matches!(read_component(b"hello"), Err(ComponentError::NotAComponent(_))));
        let e = read_component(b"\0asm\x01\0\0\0").unwrap_err().to_string();
        assert!(e.contains("core module"), "{e}");
    }

    /// A component that exports one function type under each of these names, in the binary format.
    fn exporting(names: &[&str]) -> Vec<u8> {
        // A type, so that it validates: a component type section with one empty component.
        let mut bytes = EMPTY_COMPONENT.to_vec();
        bytes.extend([4, 8]);
        bytes.extend(EMPTY_COMPONENT);
        let mut exports = vec![u8::try_from(names.len()).unwrap()];
        for name in names {
            exports.extend([0, u8::try_from(name.len()).unwrap()]);
            exports.extend(name.bytes());
            // Sort "component", index 0, no type.
            exports.extend([4, 0, 0]);
        }
        bytes.extend([11, u8::try_from(exports.len()).unwrap()]);
        bytes.extend(exports);
        bytes
    }

    #[test]
    fn a_component_without_the_exports_of_a_probe_is_refused_with_what_it_has() {
        let e = read_component(EMPTY_COMPONENT).unwrap_err().to_string();
        assert!(e.contains("exports nothing: a probe exports vouch:probe/check@1.0.0"), "{e}");
        let e = read_component(&exporting(&["describe", "run"])).unwrap_err().to_string();
        assert!(e.contains("exports describe, run: ") && e.contains("describe, validate, run"), "{e}");
        let e = read_component(&exporting(&["vouch:probe/check@2.0.0"])).unwrap_err().to_string();
        assert!(e.contains("exports vouch:probe/check@2.0.0: "), "{e}");
    }

    #[test]
    fn probes_of_both_contracts_are_taken() {
        for exports in [&["vouch:probe/check@1.0.0"][..], &["describe", "run", "validate"]] {
            assert_eq!(read_component(&exporting(exports)), Ok(ProbeImports::default()), "{exports:?}");
        }
    }
}
