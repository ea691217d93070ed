//! What an agent's answers tell of it and of its machine (QEMU guest agent reference). Pure.

use serde::Deserialize;

/// The commands whose answers are read, in the order in which they are asked: each only reads.
pub const COMMANDS: [&str; 3] = ["guest-info", "guest-get-osinfo", "guest-get-host-name"];

/// What is read of an answer, whatever it answers: no two of them have a field of the same name but `version`, which an
/// operating system has too.
#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Returned {
    version: Option<String>,
    pretty_name: Option<String>,
    name: Option<String>,
    kernel_release: Option<String>,
    host_name: Option<String>,
    /// Only `guest-info` has it.
    #[serde(rename = "supported_commands")]
    commands: Option<serde::de::IgnoredAny>,
}

#[derive(Deserialize)]
struct Answer {
    #[serde(rename = "return")]
    returned: Returned,
}

/// Returns the facts of one answer: `agent_version`, `os`, `kernel`, `host_name`. An error of the agent's, and what is no
/// answer, has none.
pub fn facts_of(reply: &str) -> Vec<(&'static str, String)> {
    let Ok(Answer { returned }) = serde_json::from_str(reply) else { return Vec::new() };
    let agent_version = returned.commands.and(returned.version);
    let facts = [
        ("agent_version", agent_version),
        ("os", returned.pretty_name.or(returned.name)),
        ("kernel", returned.kernel_release),
        ("host_name", returned.host_name),
    ];
    facts.into_iter().filter_map(|(name, value)| Some((name, value?))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(reply: &str) -> Vec<(&'static str, String)> {
        facts_of(reply)
    }

    #[test]
    fn each_answer_is_read_for_what_it_tells() {
        let own = |facts: &[(&'static str, &str)]| -> Vec<_> {
            facts.iter().map(|(name, value)| (*name, (*value).to_owned())).collect()
        };
        let info =
            r#"{"return": {"version": "7.2.17", "supported_commands": [{"enabled": true, "name": "guest-ping"}]}}"#;
        assert_eq!(told(info), own(&[("agent_version", "7.2.17")]));
        let debian = r#"{"return": {"name": "Debian GNU/Linux", "kernel-release": "6.1.0-37-amd64",
            "version": "12 (bookworm)", "pretty-name": "Debian GNU/Linux 12 (bookworm)", "machine": "x86_64"}}"#;
        assert_eq!(told(debian), own(&[("os", "Debian GNU/Linux 12 (bookworm)"), ("kernel", "6.1.0-37-amd64")]));
        let windows = r#"{"return": {"name": "Microsoft Windows", "kernel-release": "26100", "id": "mswindows"}}"#;
        assert_eq!(told(windows), own(&[("os", "Microsoft Windows"), ("kernel", "26100")]));
        assert_eq!(told(r#"{"return": {"host-name": "desk-1"}}"#), own(&[("host_name", "desk-1")]));
    }

    #[test]
    fn errors_and_what_is_no_answer_tell_nothing() {
        let disabled = r#"{"error": {"class": "CommandNotFound", "desc": "Command guest-info has been disabled"}}"#;
        for reply in [disabled, "", "{}", "[]", r#"{"return": 5}"#, r#"{"return": {"host-name": 5}}"#, "\u{0}"] {
            assert_eq!(told(reply), [], "{reply}");
        }
        assert_eq!(told(r#"{"return": {}}"#), []);
    }
}
