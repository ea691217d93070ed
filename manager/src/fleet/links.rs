//! What heartbeats say of paths, between managers: so that the leader knows every manager's view of every node.

use std::time::Duration;

use vouch_detector::{Event, LinkMeasure};
use vouch_types::{ManagerId, Moment};
use vouch_wire::convert::{ConvertError, WireLink};
use vouch_wire::proto;

use super::heartbeats::Measured;
use super::peer::Peer;

/// Returns what was measured, as the next frame to that manager tells it: ages are counted back from the arrival of the
/// tick that the frame echoes, as all others in it.
pub(super) fn told(peer: &Peer, measured: Vec<Measured>) -> Vec<proto::MeasuredLink> {
    let age = |moment: Moment| match peer.age(moment) {
        u64::MAX => None,
        micros => Some(Duration::from_micros(micros)),
    };
    let link = |(node, network, measure): Measured| WireLink {
        node,
        network,
        heard_age: measure.heard.and_then(age),
        echoed_age: measure.echoed.and_then(age),
        read_age: measure.read_age,
        loss_in_per_mille: measure.loss_in_per_mille,
        loss_out_per_mille: measure.loss_out_per_mille,
    };
    measured.into_iter().map(|measured| (&link(measured)).into()).collect()
}

/// Returns what another manager measured, as events.
///
/// # Errors
/// [`ConvertError`] names the field that breaks a rule.
pub(super) fn heard(from: ManagerId, peer: &Peer, list: Vec<proto::MeasuredLink>) -> Result<Vec<Event>, ConvertError> {
    let begun = |age: Option<Duration>| peer.begun(u64::try_from(age?.as_micros()).unwrap_or(u64::MAX));
    let event = |message| {
        let link = WireLink::try_from(message)?;
        Ok(Event::LinkMeasured(LinkMeasure {
            manager: from,
            node: link.node,
            network: link.network,
            heard: begun(link.heard_age),
            read_age: link.read_age,
            echoed: begun(link.echoed_age),
            loss_in_per_mille: link.loss_in_per_mille,
            loss_out_per_mille: link.loss_out_per_mille,
        }))
    };
    list.into_iter().map(event).collect()
}

#[cfg(test)]
mod tests {
    use vouch_types::{Network, NodeId};
    use vouch_wire::heartbeat::Measure;

    use super::*;

    #[test]
    fn no_moment_of_another_manager_is_taken_for_later_than_it_was() {
        let at = Moment::from_micros;
        let node = NodeId::new("n1").unwrap();
        // Both clocks show the same here; the tick of the receiver was sent at 1.000 and came at 1.040.
        let sender = Peer { arrived: Some(at(1_040_000)), ..Peer::default() };
        let receiver = Peer { echoed: Some(at(1_000_000)), ..Peer::default() };
        let measure = Measure {
            heard: Some(at(1_030_000)),
            echoed: Some(at(900_000)),
            read_age: Some(Duration::from_millis(70)),
            loss_in_per_mille: 10,
            loss_out_per_mille: 20,
        };
        let told = told(&sender, vec![(node.clone(), Network::Service, measure)]);
        let events = heard(ManagerId::new(2), &receiver, told).unwrap();
        let expected = LinkMeasure {
            manager: ManagerId::new(2),
            node,
            network: Network::Service,
            heard: Some(at(990_000)),
            read_age: Some(Duration::from_millis(70)),
            echoed: Some(at(860_000)),
            loss_in_per_mille: 10,
            loss_out_per_mille: 20,
        };
        assert_eq!(events, [Event::LinkMeasured(expected)]);
    }
}
