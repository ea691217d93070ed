//! Settings of a probe, compared with the JSON Schema that it describes them by.
//!
//! Pure. The schema is data of whoever uploaded it: nothing that it refers to is fetched, and its patterns are matched in
//! time that grows with the text alone. The component's own `validate` may refuse more; that a watcher tells.

use jsonschema::{Draft, PatternOptions, Validator};
use serde_json::Value;
use vouch_types::ProbeRecord;
use vouch_types::vm::SETTINGS_MAX;

use super::problem::{Problem, ProblemKind};

/// The largest pattern of a schema once it is compiled, in bytes.
const PATTERN_MAX: usize = 1024 * 1024;

/// Returns what judges settings by a schema.
///
/// # Errors
/// The rule that the schema breaks.
pub fn validator(schema: &str) -> Result<Validator, String> {
    let schema: Value = serde_json::from_str(schema).map_err(|e| format!("must be JSON, and is not: {e}"))?;
    if schema.get("type").and_then(Value::as_str) != Some("object") {
        return Err("must be an object with `\"type\": \"object\"`".to_owned());
    }
    let patterns = PatternOptions::regex().size_limit(PATTERN_MAX).dfa_size_limit(PATTERN_MAX);
    let options = jsonschema::options().offline().with_draft(Draft::Draft202012).with_pattern_options(patterns);
    let wrong = |e: jsonschema::ValidationError<'_>| format!("must be a JSON Schema without outside references: {e}");
    options.build(&schema).map_err(wrong)
}

/// Whether settings were compared with a schema.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Judged {
    /// They were, and fit.
    Fit,
    /// No schema is known of the probe.
    Unseen,
}

/// Compares settings with the schema of a probe, if one is known.
///
/// # Errors
/// A problem that names the setting, its value and the rule.
pub fn judge(probe: &ProbeRecord, settings: &Value) -> Result<Judged, Problem> {
    let text = settings.to_string();
    let wrong =
        |field: &str, value: &str, rule: &str| Err(Problem::field(ProblemKind::BadParameter, field, value, rule));
    if !settings.is_object() {
        return wrong("settings", &text, "must be a JSON object");
    }
    if text.len() > SETTINGS_MAX {
        let rule = format!("must be at most {SETTINGS_MAX} bytes");
        return wrong("settings", &format!("{} bytes", text.len()), &rule);
    }
    let Some(schema) = schema_of(probe) else { return Ok(Judged::Unseen) };
    // It was judged when it was recorded; one of a version that took more is told and not passed over.
    let validator = validator(schema)
        .map_err(|rule| Problem::field(ProblemKind::Refused, "settings_schema", probe.name.as_str(), &rule))?;
    match validator.iter_errors(settings).next() {
        None => Ok(Judged::Fit),
        Some(error) => {
            let at = error.instance_path().to_string().replace('/', ".");
            let rule = format!("must fit the schema of probe {} {}: {error}", probe.name, probe.version);
            wrong(&format!("settings{at}"), &error.instance().to_string(), &rule)
        }
    }
}

/// Returns the schema of a probe's settings: what was uploaded with it, or what comes with vouch.
fn schema_of(probe: &ProbeRecord) -> Option<&str> {
    if let Some(descriptor) = &probe.descriptor {
        return descriptor.settings_schema.as_deref();
    }
    let bundled = vouch_probe_bundle::by_name(probe.name.as_str()).filter(|own| own.digest() == probe.digest)?;
    Some(bundled.settings_schema)
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use vouch_types::ProbeDescriptor;

    use super::*;
    use crate::store::tests::samples;

    fn described(schema: &str) -> ProbeRecord {
        let descriptor = ProbeDescriptor { settings_schema: Some(schema.to_owned()), ..ProbeDescriptor::default() };
        ProbeRecord { descriptor: Some(descriptor), ..samples::uploaded() }
    }

    const SCHEMA: &str = r#"{"type": "object", "required": ["port"], "additionalProperties": false, "properties": {
        "port": {"type": "integer", "minimum": 1, "maximum": 65535}, "path": {"type": "string", "pattern": "^/"}}}"#;

    #[test]
    fn settings_that_do_not_fit_are_refused_with_the_setting_its_value_and_the_rule() {
        let probe = described(SCHEMA);
        assert_eq!(judge(&probe, &json!({"port": 22, "path": "/x"})), Ok(Judged::Fit));
        for (settings, field, value) in [
            (json!({"port": 0}), "settings.port", "0"),
            (json!({"port": "22"}), "settings.port", "\"22\""),
            (json!({"port": 22, "path": "x"}), "settings.path", "\"x\""),
            (json!({}), "settings", "{}"),
            (json!({"port": 22, "host": "x"}), "settings", r#"{"host":"x","port":22}"#),
            (json!([]), "settings", "[]"),
            (json!("port"), "settings", "\"port\""),
        ] {
            let problem = judge(&probe, &settings).expect_err("must be refused");
            let told = (problem.field.as_deref(), problem.value.as_deref());
            assert_eq!(told, (Some(field), Some(value)), "{settings}");
            assert!(problem.rule.as_ref().is_some_and(|rule| rule.starts_with("must ")), "{problem:?}");
        }
    }

    #[test]
    fn settings_have_so_many_bytes_and_no_more() {
        let probe = ProbeRecord { descriptor: None, ..samples::uploaded() };
        let sized = |bytes: usize| json!({ "x": "y".repeat(bytes - r#"{"x":""}"#.len()) });
        assert_eq!(judge(&probe, &sized(SETTINGS_MAX)), Ok(Judged::Unseen));
        let problem = judge(&probe, &sized(SETTINGS_MAX + 1)).expect_err("must be refused");
        assert_eq!(problem.rule.as_deref(), Some("must be at most 4096 bytes"));
    }

    #[test]
    fn a_schema_that_is_none_or_refers_outside_is_refused_and_nothing_is_fetched() {
        for (schema, said) in [
            ("[", "must be JSON"),
            (r#"{"type": "string"}"#, "must be an object"),
            (r#"{"type": "object", "properties": {"port": {"type": "number-of-a-port"}}}"#, "must be a JSON Schema"),
            (
                r#"{"type": "object", "properties": {"x": {"$ref": "http://127.0.0.1:1/x.json"}}}"#,
                "must be a JSON Schema",
            ),
            (r#"{"type": "object", "properties": {"x": {"pattern": "(a{1000}){1000}"}}}"#, "must be a JSON Schema"),
        ] {
            let rule = validator(schema).expect_err("must be refused");
            assert!(rule.starts_with(said), "{schema}: {rule}");
        }
    }

    #[test]
    fn the_shipped_probes_are_judged_by_the_schemas_that_come_with_them() {
        for bundled in vouch_probe_bundle::all() {
            validator(bundled.settings_schema).expect(bundled.name);
        }
        let tcp = vouch_probe_bundle::by_name("tcp").expect("it is shipped");
        let name = vouch_types::ProbeName::new("tcp").expect("a name");
        let record = ProbeRecord { name, digest: tcp.digest(), ..samples::probe() };
        assert_eq!(judge(&record, &json!({"port": 22})), Ok(Judged::Fit));
        assert!(judge(&record, &json!({})).is_err(), "the port must be set");
        let newer = ProbeRecord { digest: vouch_types::Digest::new([1; 32]), ..record };
        assert_eq!(judge(&newer, &json!({})), Ok(Judged::Unseen), "that of another version is not its own");
    }
}
