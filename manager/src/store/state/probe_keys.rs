//! Who may vouch for a probe: trusted keys, the rule whether a signature is wanted, and what was refused.
//!
//! A signature is checked by the manager that took the upload. Here it counts whether its key is still trusted when the
//! record is applied, and whether one was needed by then.

use vouch_types::probe_key::{PROBE_KEYS_MAX, REFUSAL_REASON_MAX};
use vouch_types::{
    DenyReason, EventKind, ProbeKeyName, ProbeKeyRecord, ProbeName, ProbePublicKey, ProbeRecord, ProbeRefusal,
    ProbeTrust, SignatureRule, WallTime,
};

use super::State;
use super::apply::{Outcome, Step};
use super::inventory::limit;

impl State {
    /// Returns which signatures under probes are trusted, and whether one is wanted.
    pub fn probe_trust(&self) -> &ProbeTrust {
        &self.head.probe_trust
    }

    /// Returns the names of the probes that were recorded with a signature of this key.
    pub fn probes_signed_by<'a>(&'a self, key: &'a ProbePublicKey) -> impl Iterator<Item = &'a ProbeName> {
        let signed = move |probe: &&std::sync::Arc<ProbeRecord>| {
            probe.signer.as_ref().is_some_and(|signer| signer.public_key == *key)
        };
        self.probes.values().filter(signed).map(|probe| &probe.name)
    }

    /// Refuses the record of a probe whose signature is not trusted any more, or that needs one by now.
    pub(super) fn check_signer(&self, probe: &ProbeRecord) -> Result<(), DenyReason> {
        let trust = &self.head.probe_trust;
        match (&probe.signer, trust.signatures) {
            (Some(signer), _) => {
                let trusted = trust.keys.iter().any(|k| k.name == signer.key && k.public_key == signer.public_key);
                if trusted { Ok(()) } else { Err(DenyReason::SignerNotTrusted(signer.key.clone())) }
            }
            (None, SignatureRule::Required) if !probe.shipped => Err(DenyReason::SignatureRequired(probe.name.clone())),
            (None, SignatureRule::Required | SignatureRule::Optional) => Ok(()),
        }
    }

    pub(super) fn add_probe_key(
        &mut self,
        step: &mut Step,
        name: ProbeKeyName,
        public_key: ProbePublicKey,
        by: String,
        at: WallTime,
    ) -> Outcome {
        let keys = &mut self.head.probe_trust.keys;
        let bad = |field: &str, value: String, rule: String| {
            Err(DenyReason::BadValue { field: field.to_owned(), value, rule })
        };
        if let Some(known) = keys.iter().find(|known| known.name == name || known.public_key == public_key) {
            if known.name == name && known.public_key == public_key {
                return step.done();
            }
            if known.name == name {
                return bad("name", name.to_string(), "a name that no other key has: remove that one first".to_owned());
            }
            let rule = format!("a key that is not trusted yet: it is, as {}", known.name);
            return bad("public_key", public_key.to_string(), rule);
        }
        limit("probe keys", keys.len() + 1, PROBE_KEYS_MAX)?;
        let record = ProbeKeyRecord { name: name.clone(), public_key, by: by.clone(), added: at };
        keys.push(record);
        keys.sort_by(|a, b| a.name.cmp(&b.name));
        step.event(at, EventKind::ProbeKeyAdded { key: name, public_key, by });
        self.touch_probe_keys(step);
        step.done()
    }

    pub(super) fn remove_probe_key(
        &mut self,
        step: &mut Step,
        name: ProbeKeyName,
        by: String,
        at: WallTime,
    ) -> Outcome {
        let keys = &mut self.head.probe_trust.keys;
        let Some(position) = keys.iter().position(|key| key.name == name) else {
            return Err(DenyReason::UnknownProbeKey(name));
        };
        let public_key = keys.remove(position).public_key;
        step.event(at, EventKind::ProbeKeyRemoved { key: name, public_key, by });
        self.touch_probe_keys(step);
        step.done()
    }

    pub(super) fn set_signature_rule(
        &mut self,
        step: &mut Step,
        rule: SignatureRule,
        by: String,
        at: WallTime,
    ) -> Outcome {
        let trust = &mut self.head.probe_trust;
        if trust.signatures == rule {
            return step.done();
        }
        if rule == SignatureRule::Required && trust.keys.is_empty() {
            let rule_text = "optional while no key is trusted: every upload would be refused".to_owned();
            let (field, value) = ("signatures".to_owned(), rule.as_str().to_owned());
            return Err(DenyReason::BadValue { field, value, rule: rule_text });
        }
        trust.signatures = rule;
        step.event(at, EventKind::SignatureRuleChanged { signatures: rule, by });
        self.touch_probe_keys(step);
        step.done()
    }

    /// Takes a refusal down. It changes nothing but the story.
    pub(super) fn refuse_probe(&mut self, step: &mut Step, refusal: ProbeRefusal, at: WallTime) -> Outcome {
        if refusal.reason.len() > REFUSAL_REASON_MAX {
            let rule = format!("at most {REFUSAL_REASON_MAX} bytes");
            let value = format!("{} bytes", refusal.reason.len());
            return Err(DenyReason::BadValue { field: "reason".to_owned(), value, rule });
        }
        step.event(at, EventKind::ProbeRefused { refusal });
        step.done()
    }

    fn touch_probe_keys(&mut self, step: &mut Step) {
        self.marks.probe_keys = step.index;
        step.changes.head = true;
    }
}
