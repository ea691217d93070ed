//! Between which logs a Raft call is, in its metadata: older managers send none, and pass over what they do not know.

use prost::Message;
use tonic::metadata::MetadataValue;
use tonic::{Request, Status};
use vouch_types::{LogIndex, RecordedLog};

use crate::convert;
use crate::links::LogNames;
use crate::proto;

/// Key of the metadata.
const KEY: &str = "vouch-log-names-bin";

fn index_of(index: Option<LogIndex>) -> u64 {
    index.unwrap_or_default().get()
}

/// Returns a request that says between which logs it is.
pub(super) fn named<T>(names: LogNames, message: T) -> Request<T> {
    let mut request = Request::new(message);
    let told = proto::LogNames {
        sender: names.sender.map(convert::log_bytes).unwrap_or_default(),
        sender_index: index_of(names.sender_recorded),
        receiver: names.receiver.map(|log| convert::log_bytes(log.name)).unwrap_or_default(),
        receiver_index: index_of(names.receiver.map(|log| log.index)),
    };
    request.metadata_mut().insert_bin(KEY, MetadataValue::from_bytes(&told.encode_to_vec()));
    request
}

/// Returns between which logs a request is.
pub(super) fn names_of<T>(request: &Request<T>) -> Result<LogNames, Status> {
    let Some(value) = request.metadata().get_bin(KEY) else { return Ok(LogNames::default()) };
    let bad = |why: String| Status::invalid_argument(format!("{KEY}: {why}"));
    let bytes = value.to_bytes().map_err(|e| bad(e.to_string()))?;
    let told = proto::LogNames::decode(bytes).map_err(|e| bad(e.to_string()))?;
    let name = |field, bytes: &[u8]| {
        let named = (!bytes.is_empty()).then(|| convert::log_name(field, bytes));
        named.transpose().map_err(|e| bad(e.to_string()))
    };
    let receiver = name("log_names.receiver", &told.receiver)?;
    let index = LogIndex::new(told.receiver_index);
    Ok(LogNames {
        sender: name("log_names.sender", &told.sender)?,
        sender_recorded: (told.sender_index > 0).then(|| LogIndex::new(told.sender_index)),
        receiver: receiver.map(|name| RecordedLog { name, index }),
    })
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;
    use vouch_types::LogName;

    use super::*;

    fn log(number: u128) -> LogName {
        LogName::new(Uuid::from_u128(number))
    }

    #[test]
    fn what_a_call_says_of_its_logs_is_read_back_and_a_call_of_an_older_manager_says_nothing() {
        let receiver = Some(RecordedLog { name: log(2), index: LogIndex::new(9) });
        let sender_recorded = Some(LogIndex::new(7));
        for names in [
            LogNames::default(),
            LogNames { sender: Some(log(1)), ..LogNames::default() },
            LogNames { sender: Some(log(1)), sender_recorded, receiver },
        ] {
            assert_eq!(names_of(&named(names, ())).unwrap(), names);
        }
        assert_eq!(names_of(&Request::new(())).unwrap(), LogNames::default());
    }

    #[test]
    fn a_name_that_is_none_is_refused() {
        let mut request = Request::new(());
        let told = proto::LogNames { sender: vec![1; 15], ..proto::LogNames::default() };
        request.metadata_mut().insert_bin(KEY, MetadataValue::from_bytes(&told.encode_to_vec()));
        let refused = names_of(&request).expect_err("15 bytes").message().to_owned();
        assert!(refused.contains("log_names.sender") && refused.contains("16 bytes"), "{refused}");
        request.metadata_mut().insert_bin(KEY, MetadataValue::from_bytes(b"\xff"));
        assert!(names_of(&request).is_err());
    }
}
