//! What the observations of an answer rest on.

use std::time::Duration;

use vouch_types::{Findings, Network, Phase, ProbeName, Sample, VmId};

use super::report::micros;
use super::{ConvertError, at_most, distinct, limits, network, probe_name, vm_bytes, vm_id};
use crate::proto;

/// What one run found beyond its outcome, as it travels.
#[derive(Debug, Clone, PartialEq)]
pub struct WireFindings {
    /// At which VM.
    pub vm: VmId,
    /// Over which network.
    pub network: Network,
    /// With which probe.
    pub probe: ProbeName,
    /// What it found.
    pub found: Findings,
}

impl From<WireFindings> for proto::Findings {
    fn from(f: WireFindings) -> Self {
        let Findings { phases, samples, facts } = f.found;
        let phase = |p: Phase| proto::Phase { name: p.name, took_micros: micros(p.took) };
        let sample = |s: Sample| proto::Sample { name: s.name, value: s.value, unit: s.unit };
        Self {
            vm: vm_bytes(f.vm),
            network: proto::Network::from(f.network).into(),
            probe: f.probe.as_str().to_owned(),
            phases: phases.into_iter().map(phase).collect(),
            samples: samples.into_iter().map(sample).collect(),
            facts: facts.into_iter().map(|(name, value)| proto::Fact { name, value }).collect(),
        }
    }
}

/// A watcher's host lets no control character of a probe through: terminals and logs show these texts.
fn text(field: &'static str, value: String) -> Result<String, ConvertError> {
    let value = super::text(field, value, limits::FINDING_TEXT_MAX)?;
    if value.contains(char::is_control) {
        return Err(ConvertError::new(field, value.escape_debug(), "must have no control characters"));
    }
    Ok(value)
}

fn phase(p: proto::Phase) -> Result<Phase, ConvertError> {
    let name = text("findings.phases.name", p.name)?;
    // A probe says how long its steps took: whatever it says, the answer holds.
    Ok(Phase { name, took: Duration::from_micros(p.took_micros) })
}

fn sample(s: proto::Sample) -> Result<Sample, ConvertError> {
    if !s.value.is_finite() {
        return Err(ConvertError::new("findings.samples.value", s.value, "must be finite"));
    }
    Ok(Sample {
        name: text("findings.samples.name", s.name)?,
        value: s.value,
        unit: text("findings.samples.unit", s.unit)?,
    })
}

fn fact(f: proto::Fact) -> Result<(String, String), ConvertError> {
    let name = text("findings.facts.name", f.name)?;
    Ok((name, text("findings.facts.value", f.value)?))
}

impl TryFrom<proto::Findings> for WireFindings {
    type Error = ConvertError;
    fn try_from(m: proto::Findings) -> Result<Self, ConvertError> {
        at_most("findings.phases", m.phases.len(), limits::PHASES_MAX, "phases")?;
        at_most("findings.samples", m.samples.len(), limits::SAMPLES_MAX, "samples")?;
        at_most("findings.facts", m.facts.len(), limits::FACTS_MAX, "facts")?;
        Ok(Self {
            vm: vm_id("findings.vm", &m.vm)?,
            network: network("findings.network", m.network)?,
            probe: probe_name("findings.probe", &m.probe)?,
            found: Findings {
                phases: m.phases.into_iter().map(phase).collect::<Result<_, _>>()?,
                samples: m.samples.into_iter().map(sample).collect::<Result<_, _>>()?,
                facts: m.facts.into_iter().map(fact).collect::<Result<_, _>>()?,
            },
        })
    }
}

/// Returns the findings of an answer.
///
/// # Errors
/// [`ConvertError`] when there are too many, one breaks a limit, or two are of the same check.
pub(super) fn findings(list: Vec<proto::Findings>) -> Result<Vec<WireFindings>, ConvertError> {
    at_most("answer.findings", list.len(), limits::FINDINGS_PER_ANSWER_MAX, "findings")?;
    let list: Vec<_> = list.into_iter().map(WireFindings::try_from).collect::<Result<_, _>>()?;
    let bytes = list.iter().map(|f| f.found.bytes()).sum();
    at_most("answer.findings", bytes, limits::FINDINGS_BYTES_MAX, "bytes")?;
    distinct("answer.findings", list.iter().map(|f| (f.vm, f.network, f.probe.as_str())))?;
    Ok(list)
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::super::WatcherAnswer;
    use super::*;

    fn refused<T: std::fmt::Debug>(result: Result<T, ConvertError>, field: &str) {
        assert_eq!(result.expect_err("must be refused").field, field);
    }

    fn findings() -> WireFindings {
        let text = |text: &str| text.to_owned();
        WireFindings {
            vm: VmId::new(Uuid::from_u128(7)),
            network: Network::Service,
            probe: ProbeName::new("http").unwrap(),
            found: Findings {
                phases: vec![Phase { name: text("connect"), took: Duration::from_micros(7) }],
                samples: vec![Sample { name: text("body"), value: 0.25, unit: text("bytes") }],
                facts: vec![(text("status"), text("200"))],
            },
        }
    }

    #[test]
    fn what_an_observation_rests_on_survives_the_wire_and_its_limits_are_hit() {
        let one = proto::Findings::from(findings());
        assert_eq!(WireFindings::try_from(one.clone()), Ok(findings()));
        let with = |change: &dyn Fn(&mut proto::Findings)| {
            let mut changed = one.clone();
            change(&mut changed);
            WireFindings::try_from(changed)
        };
        let (phase, sample, fact) = (&one.phases[0], &one.samples[0], &one.facts[0]);
        assert!(with(&|f| f.phases = vec![phase.clone(); limits::PHASES_MAX]).is_ok());
        refused(with(&|f| f.phases = vec![phase.clone(); limits::PHASES_MAX + 1]), "findings.phases");
        refused(with(&|f| f.samples = vec![sample.clone(); limits::SAMPLES_MAX + 1]), "findings.samples");
        refused(with(&|f| f.facts = vec![fact.clone(); limits::FACTS_MAX + 1]), "findings.facts");
        let long = || "x".repeat(limits::FINDING_TEXT_MAX + 1);
        refused(with(&|f| f.phases[0].name = long()), "findings.phases.name");
        refused(with(&|f| f.samples[0].name = long()), "findings.samples.name");
        refused(with(&|f| f.samples[0].unit = long()), "findings.samples.unit");
        refused(with(&|f| f.facts[0].name = long()), "findings.facts.name");
        refused(with(&|f| f.facts[0].value = long()), "findings.facts.value");
        refused(with(&|f| f.facts[0].value = "\u{1b}[2J".to_owned()), "findings.facts.value");
        for value in [f64::NAN, f64::INFINITY] {
            refused(with(&|f| f.samples[0].value = value), "findings.samples.value");
        }
        assert!(with(&|f| f.phases[0].took_micros = u64::MAX).is_ok(), "a probe may say that, and the answer holds");

        assert_eq!(findings().found.bytes(), 7 + 4 + 5 + 6 + 3 + 3 * 16);
        let answer = |findings| WatcherAnswer::try_from(proto::Answer { findings, ..Default::default() });
        let of = |n: usize| proto::Findings { vm: vm_bytes(VmId::new(Uuid::from_u128(n as u128 + 1))), ..one.clone() };
        let told = answer((0..limits::FINDINGS_PER_ANSWER_MAX).map(of).collect()).unwrap();
        assert_eq!(proto::Answer::from(told).findings.len(), limits::FINDINGS_PER_ANSWER_MAX);
        refused(answer((0..=limits::FINDINGS_PER_ANSWER_MAX).map(of).collect()), "answer.findings");
        refused(answer(vec![one.clone(), one.clone()]), "answer.findings");
        let value = "x".repeat(limits::FINDING_TEXT_MAX);
        let large = vec![proto::Fact { name: "n".to_owned(), value }; limits::FACTS_MAX];
        let large = (0..limits::FINDINGS_PER_ANSWER_MAX).map(|n| proto::Findings { facts: large.clone(), ..of(n) });
        refused(answer(large.collect()), "answer.findings");
    }
}
