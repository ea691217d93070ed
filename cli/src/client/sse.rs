//! Server-sent events, as the API streams them.

/// One server-sent event.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(super) struct SseEvent {
    pub(super) id: String,
    pub(super) kind: String,
    pub(super) data: String,
}

/// Parses server-sent events (WHATWG HTML, section 9.2.6) as they come in.
#[derive(Debug, Default)]
pub(super) struct SseParser {
    rest: Vec<u8>,
    event: SseEvent,
}

impl SseParser {
    pub(super) fn feed(&mut self, bytes: &[u8]) -> Vec<SseEvent> {
        self.rest.extend_from_slice(bytes);
        let mut done = Vec::new();
        while let Some(end) = self.rest.iter().position(|b| *b == b'\n') {
            let line: Vec<u8> = self.rest.drain(..=end).collect();
            let line = String::from_utf8_lossy(&line);
            let line = line.trim_end_matches(['\n', '\r']);
            if line.is_empty() {
                let event = std::mem::take(&mut self.event);
                if !event.data.is_empty() {
                    done.push(event);
                }
            } else if let Some((field, value)) = line.split_once(':') {
                let value = value.strip_prefix(' ').unwrap_or(value);
                match field {
                    "id" => value.clone_into(&mut self.event.id),
                    "event" => value.clone_into(&mut self.event.kind),
                    "data" => self.event.data.push_str(value),
                    // Comments are keep-alives.
                    _ => {}
                }
            }
        }
        done
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_are_parsed_wherever_the_pieces_are_cut() {
        let stream = b": keep-alive\n\nid: 1.0\nevent: x\ndata: {\"a\":1}\n\nid: 2.0\ndata: {}\n\n";
        for cut in 1..stream.len() {
            let mut parser = SseParser::default();
            let mut events = parser.feed(&stream[..cut]);
            events.extend(parser.feed(&stream[cut..]));
            let ids: Vec<&str> = events.iter().map(|e| e.id.as_str()).collect();
            assert_eq!(ids, ["1.0", "2.0"], "cut at {cut}");
            assert_eq!(events[0].data, "{\"a\":1}");
        }
    }
}
