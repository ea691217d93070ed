//! What watchers found when they looked because somebody asked.

use vouch_manager::api::view::{CheckView, LookView};

use crate::output::Paint;

/// Returns who was asked, who answered, and what each found.
pub fn check(check: &CheckView, paint: Paint) -> String {
    let answered = if check.answered.is_empty() { "nobody".to_owned() } else { check.answered.join(", ") };
    let mut text = format!("asked {}; {answered} answered within {} ms\n", check.asked.join(", "), check.took_ms);
    check.looks.iter().for_each(|look| tell(&mut text, look, paint));
    text
}

fn tell(text: &mut String, look: &LookView, paint: Paint) {
    let LookView { watcher, network, probe, reason, message, .. } = look;
    let state = paint.state(&look.outcome);
    *text +=
        &format!("\n{watcher} with {probe} over {network}: {state}  {reason}  {message}  ({})\n", millis(look.seconds));
    let mut line = |kind: &str, name: &str, value: &str| *text += &format!("  {kind:<7} {name}  {value}\n");
    look.phases.iter().for_each(|p| line("phase", &p.name, &millis(p.seconds)));
    look.samples.iter().for_each(|s| line("sample", &s.name, &format!("{} {}", s.value, s.unit)));
    look.facts.iter().for_each(|f| line("fact", &f.name, &f.value));
}

fn millis(seconds: f64) -> String {
    format!("{:.1} ms", seconds * 1e3)
}

#[cfg(test)]
mod tests {
    use vouch_manager::api::view::{FactView, PhaseView, SampleView};

    use super::*;

    #[test]
    fn each_look_is_told_with_what_it_rests_on() {
        let own = |text: &str| text.to_owned();
        let look = LookView {
            watcher: own("w2"),
            network: own("service"),
            probe: own("rdp"),
            outcome: own("up"),
            reason: own("negotiated"),
            message: own("port 3389 negotiates"),
            seconds: 0.0034,
            phases: vec![PhaseView { name: own("connect"), seconds: 0.0002 }],
            samples: vec![SampleView { name: own("certificate_left"), value: 86_400.5, unit: own("seconds") }],
            facts: vec![FactView { name: own("protocol"), value: own("tls") }],
        };
        let (asked, answered) = (vec![own("w1"), own("w2")], vec![own("w2")]);
        let view = CheckView { vm: own("desk-1"), asked, answered, took_ms: 7, looks: vec![look] };
        assert_eq!(
            check(&view, Paint::Plain),
            "asked w1, w2; w2 answered within 7 ms\n\
             \n\
             w2 with rdp over service: up  negotiated  port 3389 negotiates  (3.4 ms)\n  \
               phase   connect  0.2 ms\n  \
               sample  certificate_left  86400.5 seconds\n  \
               fact    protocol  tls\n"
        );
        let nobody = check(&CheckView { looks: Vec::new(), answered: Vec::new(), ..view }, Paint::Plain);
        assert_eq!(nobody, "asked w1, w2; nobody answered within 7 ms\n");
    }
}
