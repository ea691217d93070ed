//! Settings of a probe: a flat JSON object, read field by field.
//!
//! Every refusal names the field, its value and the rule, so that the person who wrote it can mend it from the message
//! alone. Unknown fields are refused: a misspelt one would otherwise be ignored in silence.

use std::ops::RangeInclusive;

use serde_json::{Map, Value};

/// The most characters of a wrong value that a message repeats.
const VALUE_SHOWN_MAX: usize = 80;

/// How deep settings nest at most. Each level takes some of a guest's small stack while they are read.
const DEPTH_MAX: usize = 16;

/// The settings of one probe.
#[derive(Clone, Debug)]
pub struct Settings {
    fields: Map<String, Value>,
}

impl Settings {
    /// Reads settings that may have the `known` fields and no others.
    ///
    /// # Errors
    /// A sentence, when the text is not a JSON object or has a field that is not known.
    pub fn parse(text: &str, known: &[&str]) -> Result<Self, String> {
        if depth(text) > DEPTH_MAX {
            return Err(format!(
                "settings {} nest too deep: at most {DEPTH_MAX} arrays and objects in each other",
                shown(text)
            ));
        }
        let value: Value = serde_json::from_str(text)
            .map_err(|e| format!("settings {} are not JSON ({e}): must be a JSON object", shown(text)))?;
        let Value::Object(fields) = value else {
            return Err(format!("settings are {}: must be a JSON object", shown(&value.to_string())));
        };
        match fields.iter().find(|(name, _)| !known.contains(&name.as_str())) {
            None => Ok(Self { fields }),
            Some((name, value)) => Err(format!(
                "field `{}` is {}: not a setting of this probe (they are: {})",
                shown(name),
                shown(&value.to_string()),
                if known.is_empty() { "none".to_owned() } else { known.join(", ") }
            )),
        }
    }

    /// Returns a whole number, or `None` when the field is absent.
    ///
    /// # Errors
    /// A sentence, when it is something else or out of range.
    pub fn whole(&self, field: &str, range: RangeInclusive<u32>) -> Result<Option<u32>, String> {
        let Some(value) = self.fields.get(field) else { return Ok(None) };
        match value.as_u64().and_then(|n| u32::try_from(n).ok()).filter(|n| range.contains(n)) {
            Some(number) => Ok(Some(number)),
            None => Err(format!(
                "field `{field}` is {}: must be a whole number from {} to {}",
                shown(&value.to_string()),
                range.start(),
                range.end()
            )),
        }
    }

    /// Returns a switch, off when the field is absent.
    ///
    /// # Errors
    /// A sentence, when it is something else.
    pub fn switch(&self, field: &str) -> Result<bool, String> {
        match self.fields.get(field) {
            None => Ok(false),
            Some(Value::Bool(on)) => Ok(*on),
            Some(other) => Err(format!("field `{field}` is {}: must be true or false", shown(&other.to_string()))),
        }
    }

    /// Returns what one of these words stands for, or `None` when the field is absent.
    ///
    /// # Errors
    /// A sentence, when it is something else.
    pub fn choice<T: Copy>(&self, field: &str, words: &[(&str, T)]) -> Result<Option<T>, String> {
        let Some(value) = self.fields.get(field) else { return Ok(None) };
        let chosen = words.iter().find(|(word, _)| value.as_str() == Some(word)).map(|(_, meaning)| *meaning);
        let all = || words.iter().map(|(word, _)| *word).collect::<Vec<_>>().join(", ");
        chosen
            .ok_or_else(|| format!("field `{field}` is {}: must be one of {}", shown(&value.to_string()), all()))
            .map(Some)
    }

    /// Returns a text, or `None` when the field is absent. `rule` says in words what `is_good` takes.
    ///
    /// # Errors
    /// A sentence, when it is something else or not good.
    pub fn text(&self, field: &str, rule: &str, is_good: impl Fn(&str) -> bool) -> Result<Option<&str>, String> {
        match self.fields.get(field) {
            None => Ok(None),
            Some(Value::String(text)) if is_good(text) => Ok(Some(text)),
            Some(other) => Err(refused(field, other, rule)),
        }
    }

    /// Returns a list of 1 to `most` items, each as `read` returns it, or `None` when the field is absent. `rule` says in
    /// words what `read` takes.
    ///
    /// # Errors
    /// A sentence, when it is no such list.
    pub fn list<T>(
        &self,
        field: &str,
        most: usize,
        rule: &str,
        read: impl Fn(&Value) -> Option<T>,
    ) -> Result<Option<Vec<T>>, String> {
        let Some(value) = self.fields.get(field) else { return Ok(None) };
        let items = value.as_array().filter(|items| (1..=most).contains(&items.len()));
        let Some(items) = items else {
            return Err(refused(field, value, &format!("a list of 1 to {most} items, each {rule}")));
        };
        let read = |item| read(item).ok_or_else(|| refused(field, item, &format!("a list of items, each {rule}")));
        items.iter().map(read).collect::<Result<Vec<T>, String>>().map(Some)
    }

    /// Returns the `port`, or `None` when it is absent.
    ///
    /// # Errors
    /// A sentence, when it is not a port number from 1.
    pub fn port(&self) -> Result<Option<u16>, String> {
        let port = self.whole("port", 1..=u32::from(u16::MAX))?;
        Ok(port.and_then(|n| u16::try_from(n).ok()))
    }
}

fn refused(field: &str, value: &Value, rule: &str) -> String {
    format!("field `{field}` is {}: must be {rule}", shown(&value.to_string()))
}

fn shown(value: &str) -> String {
    value.chars().take(VALUE_SHOWN_MAX).collect()
}

/// Returns how deep the arrays and objects of a JSON text nest, whatever else is wrong with it.
fn depth(text: &str) -> usize {
    let (mut deepest, mut open, mut in_string, mut escaped) = (0usize, 0usize, false, false);
    for byte in text.bytes() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if in_string => escaped = true,
            b'"' => in_string = !in_string,
            b'[' | b'{' if !in_string => {
                open += 1;
                deepest = deepest.max(open);
            }
            b']' | b'}' if !in_string => open = open.saturating_sub(1),
            _ => {}
        }
    }
    deepest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_names_the_field_its_value_and_the_rule() {
        let port = |text| Settings::parse(text, &["port"]).and_then(|s| s.port()).unwrap_err();
        for (text, words) in [
            (r#"{"port": 0}"#, ["`port`", "is 0", "from 1 to 65535"]),
            (r#"{"port": 65536}"#, ["`port`", "is 65536", "from 1 to 65535"]),
            (r#"{"port": "22"}"#, ["`port`", r#"is "22""#, "from 1 to 65535"]),
            (r#"{"prot": 22}"#, ["`prot`", "is 22", "they are: port"]),
            ("[1]", ["settings", "are [1]", "must be a JSON object"]),
            ("port=22", ["settings", "port=22", "must be a JSON object"]),
        ] {
            let message = port(text);
            assert!(words.iter().all(|word| message.contains(word)), "{message}");
        }
    }

    #[test]
    fn a_choice_is_one_of_its_words() {
        let chosen = |text| Settings::parse(text, &["by"]).and_then(|s| s.choice("by", &[("a", 1), ("b", 2)]));
        assert_eq!((chosen("{}"), chosen(r#"{"by": "b"}"#)), (Ok(None), Ok(Some(2))));
        assert_eq!(chosen(r#"{"by": "c"}"#).unwrap_err(), r#"field `by` is "c": must be one of a, b"#);
        assert_eq!(chosen(r#"{"by": 1}"#).unwrap_err(), "field `by` is 1: must be one of a, b");
    }

    #[test]
    fn texts_and_lists_are_refused_with_their_rule() {
        let settings =
            Settings::parse(r#"{"text": "a b", "list": [1, "x"], "none": []}"#, &["text", "list", "none"]).unwrap();
        let text = settings.text("text", "one word", |text| !text.contains(' ')).unwrap_err();
        assert_eq!(text, r#"field `text` is "a b": must be one word"#);
        assert_eq!(settings.text("text", "short", |text| text.len() < 9), Ok(Some("a b")));
        let list = settings.list("list", 2, "a whole number", Value::as_u64).unwrap_err();
        assert_eq!(list, r#"field `list` is "x": must be a list of items, each a whole number"#);
        for field in ["list", "none"] {
            let list = settings.list(field, 1, "a whole number", Value::as_u64).unwrap_err();
            assert!(list.ends_with("must be a list of 1 to 1 items, each a whole number"), "{list}");
        }
        assert_eq!(settings.list("absent", 1, "", Value::as_u64), Ok(None));
    }

    #[test]
    fn an_absent_field_is_no_error() {
        assert_eq!(Settings::parse("{}", &["port"]).unwrap().port(), Ok(None));
        assert_eq!(Settings::parse("{}", &["on"]).unwrap().switch("on"), Ok(false));
        assert_eq!(Settings::parse(r#"{"port": 3389}"#, &["port"]).unwrap().port(), Ok(Some(3389)));
    }

    #[test]
    fn a_huge_value_is_cut_in_the_message() {
        let text = format!(r#"{{"port": "{}"}}"#, "x".repeat(10_000));
        let message = Settings::parse(&text, &["port"]).and_then(|s| s.port()).unwrap_err();
        assert!(message.len() < 300, "{}", message.len());
    }

    #[test]
    fn what_nests_deeper_than_the_limit_is_refused_before_it_is_read() {
        let nested = |depth: usize| format!("{}{}", "[".repeat(depth), "]".repeat(depth));
        assert!(Settings::parse(&nested(DEPTH_MAX), &[]).unwrap_err().contains("must be a JSON object"));
        assert!(Settings::parse(&nested(DEPTH_MAX + 1), &[]).unwrap_err().contains("at most 16 arrays"));
        let flat = format!(r#"{{"a": "\"{}", "b": [1], "c": {{}}}}"#, "[".repeat(99));
        assert_eq!(depth(&flat), 2);
        assert!(Settings::parse(&flat, &["a", "b", "c"]).is_ok());
        assert_eq!(depth("]}]{"), 1);
    }
}
