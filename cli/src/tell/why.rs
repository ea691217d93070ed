//! Why a verdict is what it is, in words.

use vouch_manager::api::view::ExplainView;

use crate::output::{Paint, age};

/// Returns the why of a verdict in words.
pub fn explain(why: &ExplainView, paint: Paint) -> String {
    let vm = &why.vm;
    let head = format!("{} is recorded as {}", vm.name, paint.state(&vm.state));
    let mut text = because(&paint.bold(&head), &vm.reason);
    if !vm.suppressed.is_empty() {
        text.push_str(&format!("Nothing is said against it meanwhile: {}.\n", vm.suppressed));
    }
    for incident in &why.incidents {
        let cause = paint.broken(&incident.fault.cause);
        let told = format!("It is touched by incident {}, {} ({cause})", incident.id, incident.scope);
        text.push_str(&because(&told, &incident.reason));
    }
    if !why.live {
        let age = why.recorded_age_ms.map_or_else(|| "of unknown age".to_owned(), |ms| format!("{} old", age(ms)));
        let digest = format!("\nOnly the digest of the recorded evidence is known here, {age}: {}\n", why.digest);
        return text + &digest;
    }
    let state = paint.state(&why.state);
    text.push('\n');
    text.push_str(&because(&format!("By the evidence of {} it is {state} now", why.manager), &why.reason));
    let mut list = |head: &str, none: &str, items: &[String]| {
        text.push_str(&format!("\n{head}\n"));
        if items.is_empty() {
            text.push_str(&format!("  {none}\n"));
        }
        for item in items {
            text.push_str(&format!("  - {item}\n"));
        }
    };
    list("It rests on:", "nothing that is fresh", &why.used);
    list("It does not count:", "nothing was left out", &why.discounted);
    list("It would be another one after:", "nothing that is known", &why.would_change);
    text
}

/// Returns what is said as a line, with its reason if there is one.
fn because(what: &str, reason: &str) -> String {
    if reason.is_empty() { format!("{what}.\n") } else { format!("{what}: {}.\n", reason.trim_end_matches('.')) }
}
