//! What the observations of an answer rest on.

use std::time::Duration;

use vouch_types::{Findings, Network, Phase, ProbeName, Sample, VmId};

use super::report::micros;
use super::{ConvertError, at_most, distinct, limits, network, probe_name, text, vm_bytes, vm_id};
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

fn phase(p: proto::Phase) -> Result<Phase, ConvertError> {
    let name = text("findings.phases.name", p.name, limits::FINDING_TEXT_MAX)?;
    // A probe says how long its steps took: whatever it says, the answer holds.
    Ok(Phase { name, took: Duration::from_micros(p.took_micros) })
}

fn sample(s: proto::Sample) -> Result<Sample, ConvertError> {
    if !s.value.is_finite() {
        return Err(ConvertError::new("findings.samples.value", s.value, "must be finite"));
    }
    Ok(Sample {
        name: text("findings.samples.name", s.name, limits::FINDING_TEXT_MAX)?,
        value: s.value,
        unit: text("findings.samples.unit", s.unit, limits::FINDING_TEXT_MAX)?,
    })
}

fn fact(f: proto::Fact) -> Result<(String, String), ConvertError> {
    let name = text("findings.facts.name", f.name, limits::FINDING_TEXT_MAX)?;
    Ok((name, text("findings.facts.value", f.value, limits::FINDING_TEXT_MAX)?))
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
    distinct("answer.findings", list.iter().map(|f| (f.vm, f.network, f.probe.as_str())))?;
    Ok(list)
}
