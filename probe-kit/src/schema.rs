//! The schema of a probe's settings, read for people: one line for each setting. Pure.
//!
//! It knows the few words of JSON Schema (draft 2020-12) that settings are described with; others it passes over. What
//! settings may be is for the probe's `validate` to say, never for this.

use serde::Serialize;
use serde_json::{Map, Value};

/// One setting, as the schema tells of it.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Setting {
    /// Its name.
    pub name: String,
    /// What it may be, as `integer from 1 to 65535`.
    pub rule: String,
    /// Its value when it is left out, as JSON.
    pub default: Option<String>,
    /// Whether it may be left out.
    pub required: bool,
    /// What it is for.
    pub description: String,
}

/// Returns the settings of a schema, by their names.
///
/// # Errors
/// The rule that the schema breaks.
pub fn settings(schema: &str) -> Result<Vec<Setting>, String> {
    let read: Value = serde_json::from_str(schema).map_err(|e| format!("must be JSON, and is not: {e}"))?;
    let Some(schema) = read.as_object().filter(|schema| word(schema, "type") == Some("object")) else {
        return Err("must be an object with `\"type\": \"object\"`".to_owned());
    };
    let properties = match schema.get("properties") {
        None => return Ok(Vec::new()),
        Some(Value::Object(properties)) => properties,
        Some(other) => return Err(format!("properties are {other}: must be an object")),
    };
    let required: Vec<&str> =
        schema.get("required").and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str).collect();
    let nothing = Map::new();
    let setting = |(name, value): (&String, &Value)| {
        let property = value.as_object().unwrap_or(&nothing);
        Setting {
            name: name.clone(),
            rule: rule(property),
            default: property.get("default").map(Value::to_string),
            required: required.contains(&name.as_str()),
            description: word(property, "description").unwrap_or_default().to_owned(),
        }
    };
    Ok(properties.iter().map(setting).collect())
}

fn word<'a>(object: &'a Map<String, Value>, name: &str) -> Option<&'a str> {
    object.get(name).and_then(Value::as_str)
}

fn rule(property: &Map<String, Value>) -> String {
    let list = |values: &Vec<Value>| values.iter().map(Value::to_string).collect::<Vec<_>>().join(", ");
    let bound = |name: &str, says: &str| property.get(name).map(|value| format!(" {says} {value}")).unwrap_or_default();
    match property.get("enum").and_then(Value::as_array) {
        Some(values) => format!("one of {}", list(values)),
        None => {
            let kind = word(property, "type").unwrap_or("any value");
            format!("{kind}{}{}", bound("minimum", "from"), bound("maximum", "to"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_are_told_with_their_rules_and_defaults() {
        let schema = r#"{"type": "object", "required": ["path"], "properties": {
            "port": {"type": "integer", "minimum": 1, "maximum": 65535, "default": 80, "description": "Where."},
            "method": {"enum": ["GET", "HEAD"]}, "path": {"type": "string"}, "odd": true}}"#;
        let told: Vec<String> = settings(schema)
            .unwrap()
            .into_iter()
            .map(|s| format!("{} {} {:?} {} {}", s.name, s.rule, s.default, s.required, s.description))
            .collect();
        assert_eq!(
            told,
            [
                "method one of \"GET\", \"HEAD\" None false ",
                "odd any value None false ",
                "path string None true ",
                "port integer from 1 to 65535 Some(\"80\") false Where.",
            ]
        );
        assert_eq!(settings(r#"{"type": "object"}"#), Ok(Vec::new()));
    }

    #[test]
    fn a_schema_that_is_none_is_told_with_the_rule() {
        for (schema, rule) in [
            ("", "must be JSON"),
            ("[]", "must be an object"),
            (r#"{"type": "string"}"#, "must be an object with"),
            (r#"{"type": "object", "properties": 7}"#, "properties are 7"),
        ] {
            let why = settings(schema).unwrap_err();
            assert!(why.contains(rule), "{schema}: {why}");
        }
    }
}
